//! Shows API objects without knowing all their members: one as `name  value` lines, many as a
//! table.
//!
//! A table has a column for each wanted member that some row has. Values are shown as the node sent
//! them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::table::Table;

/// Any object of the API.
pub type Object = Map<String, Value>;

/// An answer with a list: an array, or an object with an array among its members.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Listing {
    /// An array without an object around it.
    Bare(Vec<Object>),
    /// `{"keys":[…]}` and the like.
    Wrapped(Object),
}

impl Listing {
    /// The objects of the list.
    pub fn rows(self) -> Vec<Object> {
        match self {
            Self::Bare(rows) => rows,
            Self::Wrapped(object) => object
                .into_iter()
                .find_map(|(_, value)| match value {
                    Value::Array(items) => Some(items),
                    _ => None,
                })
                .unwrap_or_default()
                .into_iter()
                .filter_map(|item| match item {
                    Value::Object(row) => Some(row),
                    _ => None,
                })
                .collect(),
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

/// The objects as rows, with a column for each wanted member that some object has.
pub fn table(rows: &[Object], wanted: &[&str]) -> Table {
    let shown: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|name| rows.iter().any(|row| row.get(*name).is_some_and(|v| !v.is_null())))
        .collect();
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
        assert_eq!(
            table(&rows, &["id", "scopes", "expires_at"]).to_string(),
            "ID  SCOPES\na   x,y\nb"
        );
    }

    #[test]
    fn null_members_are_not_printed() {
        let object: Object = serde_json::from_str(r#"{"id":"a","n":3,"gone":null}"#).unwrap();
        let text = lines(&object);
        assert!(text.contains("n") && !text.contains("gone"), "{text}");
    }
}
