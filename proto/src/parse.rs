//! Parsing wire messages once, at the edge: the error, and the helpers that all conversions share.

use thiserror::Error;

use crate::{RecipeError, RosterError};

/// Why a wire message is not a valid domain value.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ParseError {
    /// A field that is always set is not.
    #[error("message has no `{field}`")]
    Missing {
        /// Name of the field in the `.proto` file.
        field: &'static str,
    },
    /// A field has a value outside its domain.
    #[error("`{field}` is {value}, expected {expected}")]
    Invalid {
        /// Name of the field in the `.proto` file, or of the type that was parsed.
        field: &'static str,
        /// What came.
        value: String,
        /// What would be valid.
        expected: &'static str,
    },
    /// The members do not form a ring.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The recipe is not valid.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

/// Takes the value of a message field that must be set.
pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ParseError> {
    value.ok_or(ParseError::Missing { field })
}

/// Checks that a text field is not empty, has no control characters and is at most `TEXT_BYTES_MAX` long.
pub(crate) fn text(field: &'static str, value: String) -> Result<String, ParseError> {
    if value.is_empty() || value.len() > TEXT_BYTES_MAX || value.chars().any(char::is_control) {
        let shown: String = value.chars().take(SHOWN_CHARS_MAX).collect();
        return Err(ParseError::Invalid {
            field,
            value: format!("{shown:?}"),
            expected: "1 to 1024 bytes of text without control characters",
        });
    }
    Ok(value)
}

/// Cuts free text from a peer to `TEXT_BYTES_MAX` bytes and to one line, so that it can stand in a log.
pub(crate) fn sentence(value: &str) -> String {
    let mut cut = value.len().min(TEXT_BYTES_MAX);
    while !value.is_char_boundary(cut) {
        cut -= 1;
    }
    value[..cut]
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Parses an enum field; `0` and unknown numbers are refused.
pub(crate) fn known<W, T>(
    field: &'static str,
    number: i32,
    map: impl Fn(W) -> Option<T>,
) -> Result<T, ParseError>
where
    W: TryFrom<i32>,
{
    W::try_from(number)
        .ok()
        .and_then(map)
        .ok_or_else(|| ParseError::Invalid {
            field,
            value: number.to_string(),
            expected: "a value of its enum other than UNSPECIFIED",
        })
}

/// Long enough for any host, path or sentence, short enough for a log line.
const TEXT_BYTES_MAX: usize = 1024;
/// How much of a bad text an error repeats.
const SHOWN_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_cut_at_a_character_boundary_and_kept_on_one_line() {
        let long = "ä\n".repeat(TEXT_BYTES_MAX);
        let cut = sentence(&long);
        assert!(cut.len() <= TEXT_BYTES_MAX);
        assert!(cut.starts_with("ä ä"));
    }

    #[test]
    fn text_must_be_printable_and_not_empty() {
        assert!(text("host", "node-1".into()).is_ok());
        assert!(text("host", String::new()).is_err());
        assert!(text("host", "a\u{1b}[2J".into()).is_err());
    }
}
