//! The text of lease tokens: 32 hexadecimal digits.
//!
//! Invariants: `LEASE-TOKEN-1` what [`text`] writes [`parse`] reads; `LEASE-TOKEN-2` any other text is the token of no
//! lease, and is answered like one that has run out. It does not know which tokens are current: the tenant's inbox does.

use triggers_actors::model::rows::LeaseToken;

/// The token as clients see it.
pub(crate) fn text(token: &LeaseToken) -> String {
    format!("{:032x}", u128::from_be_bytes(*token))
}

/// The token of a text; none if no token has that text.
pub(crate) fn parse(text: &str) -> Option<LeaseToken> {
    let fits = text.len() == 32
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    u128::from_str_radix(text, 16).ok().filter(|_| fits).map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(token: [u8; 16]) {
            prop_assert_eq!(parse(&text(&token)), Some(token));
        }
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let good = "0123456789abcdef0123456789abcdef";
        assert!(parse(good).is_some());
        for bad in [
            "",
            "x",
            &good[1..],
            &format!("{good}0"),
            &good.to_uppercase(),
            &format!("+{}", &good[1..]),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
