//! Text in HTML.

use std::fmt;

/// Text that can stand in HTML, between tags and in quoted attributes.
pub(super) struct Escaped<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '<' => self.0.write_str("&lt;"),
                '>' => self.0.write_str("&gt;"),
                '&' => self.0.write_str("&amp;"),
                '"' => self.0.write_str("&quot;"),
                '\'' => self.0.write_str("&#39;"),
                // Nothing that a browser would not show, and nothing that turns the reading direction.
                letter if letter.is_control() => self.0.write_str(" "),
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Ok(()),
                letter => self.0.write_char(letter),
            }?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_becomes_a_tag_or_leaves_its_attribute(text: String) {
            let escaped = Escaped(&text).to_string();
            prop_assert!(!escaped.contains(['<', '>', '"', '\'', '\n']));
            for (at, _) in escaped.match_indices('&') {
                let rest = &escaped[at..];
                let known = ["&lt;", "&gt;", "&amp;", "&quot;", "&#39;"];
                prop_assert!(known.iter().any(|of| rest.starts_with(of)));
            }
        }
    }
}
