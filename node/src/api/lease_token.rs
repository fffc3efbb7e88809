//! The text form of lease tokens: 32 hexadecimal digits.
//!
//! - `LEASE-TOKEN-1`: [`parse`] reads what [`text`] writes.
//! - `LEASE-TOKEN-2`: any other text is answered like the token of a lease that has ended.
//!
//! The tenant's inbox decides which tokens are current.

use triggers_actors::model::rows::LeaseToken;

/// The text of a token.
pub(crate) fn text(token: &LeaseToken) -> String {
    format!("{:032x}", u128::from_be_bytes(*token))
}

/// The token of a text; `None` if it is not the text of a token.
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
