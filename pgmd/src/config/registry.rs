//! What a setting is, and how settings are declared: once, with [`settings!`].
//!
//! A declaration names the field, its type, its default, how a reload treats it, and says in its doc comment what it is
//! for. From that one place come the field of the typed configuration, reading and checking, the nearest valid name for
//! a mistyped one, `conf ls`, `conf get` and `conf set`, what a reload reports, the sample file and the reference page
//! `docs/configuration.md`.
//!
//! To add a setting, add its lines in `settings.rs`. A new kind of value is a type with [`Value`](super::value::Value).

use super::ConfigError;
use super::section::Section;
use super::value::{Kind, Literal, Surroundings, Value, Wrong};

/// One setting, as it is declared.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its dotted name: `management.port`; `servers.NAME.slot` stands for that of each server.
    pub key: &'static str,
    /// What it is for, in a sentence or two.
    pub help: &'static str,
    /// What its values look like.
    pub kind: Kind,
    /// What holds when the file does not say.
    pub default: DefaultValue,
    /// The smallest and the largest value, where there are any.
    pub limits: Option<(&'static str, &'static str)>,
    /// When a change takes effect.
    pub reload: ReloadClass,
    /// Whether a value is one of this setting's.
    pub(super) check: Check,
}

/// Reads a value only to see whether that works.
pub(super) type Check = fn(&Setting, &Literal, &Surroundings<'_>) -> Result<(), Wrong>;

/// The value that is written, within the setting's limits.
pub(super) fn read<T: Value>(
    setting: &Setting,
    literal: &Literal,
    surroundings: &Surroundings<'_>,
) -> Result<T, Wrong> {
    let value = T::read(literal, surroundings)?;
    let Some((low, high)) = setting.limits else {
        return Ok(value);
    };
    let limit = |text| T::read(&T::KIND.form.literal(text), surroundings);
    if value.is_within(&limit(low)?, &limit(high)?) {
        return Ok(value);
    }
    Err(Wrong::is(&format!("{low} to {high}, not {}", value.text())))
}

/// The [`Check`] of a type.
pub(super) fn check<T: Value>(
    setting: &Setting,
    literal: &Literal,
    surroundings: &Surroundings<'_>,
) -> Result<(), Wrong> {
    read::<T>(setting, literal, surroundings).map(drop)
}

/// What holds for a setting that is not in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// This value, as one would type it after `conf set KEY`.
    Is(&'static str),
    /// No value; in words, what that means.
    Unset(&'static str),
    /// The file has to say.
    Required,
}

impl DefaultValue {
    /// For people: `10s`, `none: …`, `required`.
    pub fn describe(self) -> String {
        match self {
            Self::Is(text) => text.to_owned(),
            Self::Unset("") => "none".to_owned(),
            Self::Unset(meaning) => format!("none: {meaning}"),
            Self::Required => "required".to_owned(),
        }
    }
}

/// When a changed setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadClass {
    /// At a reload, at once.
    Live,
    /// At a reload, with new receive workers: streaming pauses for a moment.
    NewWorkers,
    /// When the daemon starts the next time.
    Restart,
}

impl ReloadClass {
    /// The name in listings: `live`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::NewWorkers => "new_workers",
            Self::Restart => "restart",
        }
    }

    /// For people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Live => "at a reload",
            Self::NewWorkers => "at a reload, with new receive workers",
            Self::Restart => "at the next start",
        }
    }
}

/// Settings that stand together: a type whose fields they are.
pub(super) trait Group: Sized {
    /// Every setting of the group and of those in it, in the order of their declaration.
    fn settings() -> Vec<&'static Setting>;

    /// Reads the group out of the section that it, or everything around it, stands in.
    fn read(section: &Section<'_, '_>) -> Result<Self, ConfigError>;
}

/// Declares a group of settings.
///
/// ```text
/// settings! {
///     /// What the type is.
///     pub struct JobsConfig in "jobs" {
///         /// What the setting is for.
///         limit as "max": usize = Is("2"), Live, limits("1", "64");
///     }
///     groups { /// A group inside.  logging: LoggingConfig; }
///     beside { /// What is no setting; begins as its type's default.  file: PathBuf; }
/// }
/// ```
///
/// `in ""` is the top level. `as` gives a setting another name in the file than its field has.
macro_rules! settings {
    (
        $(#[$attribute:meta])*
        pub struct $group:ident in $section:tt {
            $(
                $(#[doc = $help:literal])+
                $field:ident $(as $name:literal)? : $kind:ty = $default:expr, $reload:ident
                    $(, limits($low:literal, $high:literal))?;
            )+
        }
        $(groups { $($(#[$inner_doc:meta])* $inner:ident : $inner_type:ty;)+ })?
        $(beside { $($(#[$beside_doc:meta])* $beside:ident : $beside_type:ty;)+ })?
    ) => {
        $(#[$attribute])*
        pub struct $group {
            $($(#[doc = $help])+ pub $field: $kind,)+
            $($($(#[$inner_doc])* pub $inner: $inner_type,)+)?
            $($($(#[$beside_doc])* pub $beside: $beside_type,)+)?
        }

        impl $crate::config::registry::Group for $group {
            fn settings() -> Vec<&'static $crate::config::registry::Setting> {
                static SETTINGS: &[$crate::config::registry::Setting] = &[
                    $(settings!(@setting $section, ($field $($name)?), $kind, $default, $reload,
                        concat!($($help),+) $(, $low, $high)?),)+
                ];
                #[allow(unused_mut, reason = "only groups with groups in them add to it")]
                let mut settings: Vec<_> = SETTINGS.iter().collect();
                $($(settings.extend(<$inner_type as $crate::config::registry::Group>::settings());)+)?
                settings
            }

            fn read(
                section: &$crate::config::section::Section<'_, '_>,
            ) -> Result<Self, $crate::config::ConfigError> {
                let section = &section.open($section)?;
                Ok(Self {
                    $($field: {
                        static SETTING: $crate::config::registry::Setting =
                            settings!(@setting $section, ($field $($name)?), $kind, $default, $reload,
                                concat!($($help),+) $(, $low, $high)?);
                        section.take(&SETTING)?
                    },)+
                    $($($inner: <$inner_type as $crate::config::registry::Group>::read(section)?,)+)?
                    $($($beside: Default::default(),)+)?
                })
            }
        }
    };
    (@setting $section:tt, ($($name:tt)+), $kind:ty, $default:expr, $reload:ident,
        $help:expr $(, $low:literal, $high:literal)?) => {
        $crate::config::registry::Setting {
            key: settings!(@key $section, $($name)+),
            help: $help.trim_ascii(),
            kind: <$kind as $crate::config::value::Value>::KIND,
            default: { use $crate::config::registry::DefaultValue::*; $default },
            limits: settings!(@limits $($low, $high)?),
            reload: $crate::config::registry::ReloadClass::$reload,
            check: $crate::config::registry::check::<$kind>,
        }
    };
    (@key "", $field:ident) => { stringify!($field) };
    (@key "", $field:ident $name:literal) => { $name };
    (@key $section:tt, $field:ident) => { concat!($section, ".", stringify!($field)) };
    (@key $section:tt, $field:ident $name:literal) => { concat!($section, ".", $name) };
    (@limits) => { None };
    (@limits $low:literal, $high:literal) => { Some(($low, $high)) };
}

pub(super) use settings;
