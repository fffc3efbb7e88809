//! Shows API objects without knowing all their members: one as `name  value` lines, many as a
//! table.
//!
//! A table has a column for each wanted member that some row has. Values are shown as the node sent
//! them.

use super::exit::CommandResult;
use super::output;
use super::table::Table;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use triggers_client::Reply;

/// Any object of the API.
pub type Object = Map<String, Value>;

/// An answer with a list: an array, or an object with an array among its members.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Listing {
    /// An array without an object around it.
    Bare(Vec<Object>),
    /// `{"keys":[…]}` and the like.
    Wrapped(Object),
}

impl Listing {
    /// The objects of the list.
    fn rows(self) -> Vec<Object> {
        match self {
            Self::Bare(rows) => rows,
            Self::Wrapped(object) => {
                let list = object.into_iter().map(|(_, value)| value).find(Value::is_array);
                let rows = list.map(serde_json::from_value::<Vec<Value>>);
                let rows = rows.and_then(Result::ok).unwrap_or_default().into_iter();
                rows.filter_map(|row| serde_json::from_value(row).ok()).collect()
            }
        }
    }
}

/// The members as aligned lines, without those that are null.
pub fn lines(object: &Object) -> String {
    let mut table = Table::new(["FIELD", "VALUE"]);
    for (name, value) in object {
        if !value.is_null() {
            table.row([name.clone(), text(value)]);
        }
    }
    table.to_string()
}

/// Prints the node's answer: an object as aligned lines, or the answer as it came.
///
/// # Errors
/// `CommandError::Output`, or `ClientError::Unexpected`.
pub fn print<T: DeserializeOwned>(reply: &Reply<T>, json: bool) -> CommandResult {
    if json {
        return output::json_text(reply.text()?);
    }
    output::line(&lines(&reply.decode_as::<Object>()?))
}

/// As `print`, for an object with a key that is shown now: the key stands alone on stdout, and
/// everything else goes to stderr.
pub fn print_key<T: DeserializeOwned>(reply: &Reply<T>, json: bool) -> CommandResult {
    if json {
        return output::json_text(reply.text()?);
    }
    let mut object: Object = reply.decode_as()?;
    let key = take_key(&mut object);
    output::note(&lines(&object));
    let Some((caption, key)) = key else { return Ok(()) };
    output::note(caption);
    output::line(&output::printable(&key))
}

/// Removes the key of an object, and returns it with a caption.
fn take_key(object: &mut Object) -> Option<(&'static str, String)> {
    let names = [
        ("key", "the key, shown this once:"),
        ("secret", "the secret, shown this once:"),
        ("public_key", "the public key:"),
    ];
    names.into_iter().find_map(|(member, caption)| match object.remove(member) {
        Some(Value::String(key)) => Some((caption, key)),
        _ => None,
    })
}

/// Prints the node's answer: a list as a table with the wanted columns, or the answer as it came.
pub fn print_list<T: DeserializeOwned>(
    reply: &Reply<T>,
    json: bool,
    name: &str,
    wanted: &str,
) -> CommandResult {
    if json {
        return output::json_text(reply.text()?);
    }
    let rows = reply.decode_as::<Listing>()?.rows();
    if rows.is_empty() {
        output::note(&format!("no {name}"));
        return Ok(());
    }
    output::line(&table(&rows, wanted).to_string())
}

/// The objects as rows, with a column for each wanted member that some object has.
fn table(rows: &[Object], wanted: &str) -> Table {
    let has_value = |row: &Object, name: &str| row.get(name).is_some_and(|value| !value.is_null());
    let mut shown: Vec<&str> = wanted.split(' ').collect();
    shown.retain(|name| rows.iter().any(|row| has_value(row, name)));
    let header: Vec<String> = shown.iter().map(|name| name.to_uppercase()).collect();
    let mut table = Table::new(header.iter().map(String::as_str));
    for row in rows {
        table.row(shown.iter().map(|name| row.get(*name).map(text).unwrap_or_default()));
    }
    table
}

/// The JSON form of a value as it stands in a cell.
pub fn cell(value: &impl Serialize) -> String {
    serde_json::to_value(value).as_ref().map(text).unwrap_or_default()
}

/// Reads one of these names from an argument as the variant of that name. The help lists the names
/// with their descriptions.
pub fn one_of<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    names: impl IntoIterator<Item = (&'static str, &'static str)>,
) -> impl TypedValueParser<Value = T> {
    let names = names.into_iter().map(|(name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(names).try_map(|name| named(&name))
}

/// Reads the name of a variant, such as that of a tier, from an argument.
///
/// # Errors
/// The names that there are.
pub fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(name)).map_err(|error| error.to_string())
}

/// A value in a cell: text bare, lists of text joined, everything else as JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_list_are_read() {
        for text in [r#"[{"id":"a"}]"#, r#"{"keys":[{"id":"a"}],"cursor":null}"#] {
            let rows = serde_json::from_str::<Listing>(text).unwrap().rows();
            assert_eq!(rows[0]["id"], "a", "{text}");
        }
    }

    #[test]
    fn columns_without_values_are_left_out() {
        let rows: Vec<Object> =
            serde_json::from_str(r#"[{"id":"a","scopes":["x","y"],"expires_at":null},{"id":"b"}]"#)
                .unwrap();
        assert_eq!(table(&rows, "id scopes expires_at").to_string(), "ID  SCOPES\na   x,y\nb");
    }

    #[test]
    fn what_a_receiver_needs_is_found_in_both_schemes() {
        let key = |text: &str| take_key(&mut serde_json::from_str(text).unwrap());
        let secret = key(r#"{"id":"i","secret":"whsec_a","public_key":null}"#);
        assert_eq!(secret, Some(("the secret, shown this once:", "whsec_a".to_owned())));
        let public = key(r#"{"id":"i","public_key":"whpk_a"}"#);
        assert_eq!(public, Some(("the public key:", "whpk_a".to_owned())));
        assert_eq!(key(r#"{"id":"i"}"#), None);
    }

    #[test]
    fn null_members_are_not_printed() {
        let object: Object = serde_json::from_str(r#"{"id":"a","n":3,"gone":null}"#).unwrap();
        let text = lines(&object);
        assert!(text.contains("n") && !text.contains("gone"), "{text}");
    }
}
