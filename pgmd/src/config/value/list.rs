//! Lists: of SQL statements, of folders, and of places of tablespaces.

use std::path::{Path, PathBuf};

use super::path::{expand, written_path};
use super::{Form, Kind, Literal, Surroundings, Value, Wrong};

/// SQL statements, each a text of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statements(Vec<String>);

/// Folders in which programs are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFolders(Vec<PathBuf>);

impl Statements {
    /// The statements.
    pub fn into_texts(self) -> Vec<String> {
        self.0
    }
}

impl ProgramFolders {
    /// The folders, absolute.
    pub fn into_paths(self) -> Vec<PathBuf> {
        self.0
    }
}

/// New places of tablespaces, by their old places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespacePlaces(Vec<(PathBuf, PathBuf)>);

impl TablespacePlaces {
    /// Old places and new ones.
    pub fn pairs(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.0
            .iter()
            .map(|(from, to)| (from.as_path(), to.as_path()))
    }
}

/// One text, or several.
fn texts(written: &Literal, what: &str) -> Result<Vec<String>, Wrong> {
    let texts = match written {
        Literal::Text(text) => vec![text.clone()],
        Literal::List(texts) => texts.clone(),
        Literal::Word(_) => return Err(Wrong::is(what)),
    };
    if texts.is_empty() || texts.iter().any(|text| text.trim().is_empty()) {
        return Err(Wrong::because("it is empty"));
    }
    if texts.iter().any(|text| text.contains('\0')) {
        return Err(Wrong::because("it cannot hold a zero byte"));
    }
    Ok(texts)
}

fn written(texts: Vec<String>) -> String {
    Literal::List(texts).ron(Form::TextOrList)
}

impl Value for Statements {
    const KIND: Kind = Kind::new("SQL statements", Form::TextOrList);

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        texts(
            written,
            "a statement in double quotes, or a list of them: [\"select …\", \"select …\"]",
        )
        .map(Self)
    }

    fn text(&self) -> String {
        written(self.0.clone())
    }
}

impl Value for ProgramFolders {
    const KIND: Kind = Kind::new("program folders", Form::TextOrList);

    fn read(written: &Literal, cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        let texts = texts(
            written,
            "a path in double quotes, or a list of them: [\"/usr/lib/postgresql\"]",
        )?;
        texts
            .iter()
            .map(|text| expand(text, cx))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn text(&self) -> String {
        written(self.0.iter().map(|path| written_path(path)).collect())
    }
}

impl Value for TablespacePlaces {
    const KIND: Kind = Kind::new("places of tablespaces", Form::TextOrList);

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        let texts = texts(
            written,
            "FROM=TO in double quotes, or a list of them: [\"/srv/fast=/standby/fast\"]",
        )?;
        let places = texts.iter().map(|text| {
            let (from, to) = text
                .split_once('=')
                .ok_or_else(|| Wrong::because(format_args!("there is no `=` in {text}")))?;
            let absolute = |path: &str| Path::new(path).is_absolute().then(|| PathBuf::from(path));
            let (from, to) = (absolute(from), absolute(to));
            from.zip(to).ok_or_else(|| {
                Wrong::because(format_args!("{text} is not two absolute folders"))
                    .hint("write them as /srv/fast=/standby/fast")
            })
        });
        places.collect::<Result<_, _>>().map(Self)
    }

    fn text(&self) -> String {
        let shown =
            |(from, to): &(PathBuf, PathBuf)| format!("{}={}", from.display(), to.display());
        written(self.0.iter().map(shown).collect())
    }
}
