//! Text of others made safe for a terminal.
//!
//! Records, comments and error texts come from other people. A control character in them could move the cursor, rewrite
//! what stands above, or type on the user's behalf, so none reaches a terminal.

use std::fmt::Write;

/// The text on one line: runs of white space become a blank, and what could steer a terminal a `\u{FFFD}`.
pub(crate) fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().map(harmless).collect()
}

/// The text with its line breaks.
pub(crate) fn lines(text: &str) -> String {
    text.chars().map(|letter| if letter == '\n' { letter } else { harmless(letter) }).collect()
}

/// JSON that says the same, with what could steer a terminal escaped. The writer of JSON escapes the first 32 characters alone.
pub(crate) fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter == '\n' || harmless(letter) == letter {
            shown.push(letter);
        } else {
            // All of them are of the first plane.
            let _ = write!(shown, "\\u{:04x}", u32::from(letter));
        }
    }
    shown
}

fn harmless(letter: char) -> char {
    // Bidirectional overrides (Unicode TR 36 section 2.10) make a line read otherwise than it is.
    let overrides = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if letter.is_control() || overrides { char::REPLACEMENT_CHARACTER } else { letter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_record_steers_the_terminal() {
        for text in ["\u{1b}]0;title\u{7}", "a\u{9b}2J", "a\rb", "\u{202e}txt.exe", "a\u{8}b", "a\0b"] {
            let shown = format!("{}{}", line(text), lines(text));
            assert!(!shown.chars().any(|letter| letter.is_control()), "{shown:?}");
            assert!(!shown.contains('\u{202e}'), "{shown:?}");
        }
        let title = "\u{9b}2J\u{7f}\u{202e}\u{1b}é";
        let shown = json(&serde_json::to_string_pretty(&[title]).unwrap());
        assert_eq!(shown, "[\n  \"\\u009b2J\\u007f\\u202e\\u001bé\"\n]");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [title]);
        assert_eq!(line(" two\n  lines\t"), "two lines");
        assert_eq!(lines("two\nlines"), "two\nlines");
    }
}
