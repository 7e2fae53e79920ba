//! pgmoneta's configuration files: sections in brackets, `key = value`, comments from `#` or `;` at the beginning of a line.

/// A file, line by line, as far as it can be read.
#[derive(Debug, Default)]
pub(super) struct Ini {
    /// Every `key = value`, in the order of the file.
    pub(super) entries: Vec<Entry>,
    /// Lines that are nothing of the kind.
    pub(super) broken: Vec<Broken>,
}

/// One `key = value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name of its section; empty before the first one.
    pub(super) section: String,
    pub(super) key: String,
    /// Without the quotes around it.
    pub(super) value: String,
    /// From 1.
    pub(super) line: usize,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) section: String,
    pub(super) line: usize,
}

impl Ini {
    pub(super) fn parse(text: &str) -> Self {
        let mut ini = Self::default();
        let mut section = String::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                name.trim().clone_into(&mut section);
                continue;
            }
            match line.split_once('=') {
                Some((key, value)) if !key.trim().is_empty() => ini.entries.push(Entry {
                    section: section.clone(),
                    key: key.trim().to_owned(),
                    value: unquoted(value.trim()).to_owned(),
                    line: line_number,
                }),
                _ => ini.broken.push(Broken {
                    section: section.clone(),
                    line: line_number,
                }),
            }
        }
        ini
    }

    /// The value that holds for a key: the last one that is not empty.
    pub(super) fn value(&self, section: &str, key: &str) -> Option<&str> {
        let entries = self.entries.iter().rev();
        let mut found = entries.filter(|entry| entry.section == section && entry.key == key);
        found
            .next()
            .map(|entry| entry.value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The names of the sections with entries, in their order.
    pub(super) fn sections(&self) -> Vec<&str> {
        let mut sections: Vec<&str> = Vec::new();
        for entry in &self.entries {
            if !sections.contains(&entry.section.as_str()) {
                sections.push(&entry.section);
            }
        }
        sections
    }
}

fn unquoted(value: &str) -> &str {
    let inner = |quote| {
        value
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
    };
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_comments_and_quotes_are_read() {
        let ini = Ini::parse(
            "\u{feff}# x\nlost = 1\r\n[pgmoneta]\n ; y\n host = \"a = b\"\nbase_dir='/x'\nlog_path =\nnonsense\n[ p ]\nhost=h\nhost=i\n= 3\n",
        );
        assert_eq!(ini.sections(), ["", "pgmoneta", "p"]);
        assert_eq!(ini.value("pgmoneta", "host"), Some("a = b"));
        assert_eq!(ini.value("pgmoneta", "base_dir"), Some("/x"));
        assert_eq!(ini.value("pgmoneta", "log_path"), None);
        assert_eq!(ini.value("p", "host"), Some("i"));
        assert_eq!(ini.entries[0].line, 2);
        let broken: Vec<usize> = ini.broken.iter().map(|broken| broken.line).collect();
        assert_eq!(broken, [8, 12]);
    }
}
