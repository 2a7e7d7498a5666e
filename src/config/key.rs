//! Finds the API key: in a file, in the environment, or among systemd's credentials.
//!
//! The key is never part of the configuration, never logged, and never quoted in an error. What is found is checked
//! here, because a line break or a stray letter in it would only show as a refused request much later.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::{Api, ConfigError, DropConfig};

/// The largest key file: keys have some tens of letters, and a larger file is another file.
const MAX_KEY_BYTES: u64 = 8 << 10;

/// The variable that may hold the key.
const VARIABLE: &str = "PASSFORT_API_KEY";

/// The variable in which systemd passes the folder of a unit's credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The name of the credential that holds the key.
pub(super) const CREDENTIAL: &str = "api-key";

/// A key, and where it was found.
#[derive(Debug)]
pub struct ApiKey {
    /// The key itself, fit for a header.
    pub secret: SecretString,
    /// Where it was found.
    pub origin: KeyOrigin,
    /// Warnings, e.g. about a file that everybody can read: sentences without a full stop.
    pub warnings: Vec<String>,
}

/// Where a key was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOrigin {
    /// This file, which may be systemd's credential.
    File(PathBuf),
    /// The variable `PASSFORT_API_KEY`.
    Variable,
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable => write!(f, "${VARIABLE}"),
        }
    }
}

/// The key for `drop`, or for the drops that have none of their own.
///
/// The first of these that is set counts, and must be good: the drop's `api_key_file`, `api.api_key_file`,
/// `$PASSFORT_API_KEY`, the systemd credential `api-key`.
///
/// # Errors
///
/// [`ConfigError::NoKey`] where none is set, or why what is set cannot be used.
pub fn api_key(
    api: &Api,
    drop: Option<&DropConfig>,
    env: &mut dyn Iterator<Item = (String, String)>,
) -> Result<ApiKey, ConfigError> {
    if let Some(path) = drop.and_then(|drop| drop.api_key_file.as_ref()).or(api.api_key_file.as_ref()) {
        return from_file(path);
    }
    let (mut key, mut credentials) = (None, None);
    for (name, value) in env {
        match name.as_str() {
            VARIABLE => key = Some(value),
            CREDENTIALS => credentials = Some(value),
            _ => {}
        }
    }
    // A variable that is set but empty is how environment files say "not set".
    if let Some(key) = key.filter(|key| !key.trim().is_empty()) {
        return checked(key.as_bytes(), KeyOrigin::Variable, Vec::new());
    }
    let Some(folder) = credentials.filter(|folder| !folder.is_empty()) else { return Err(ConfigError::NoKey) };
    let path = Path::new(&folder).join(CREDENTIAL);
    match from_file(&path) {
        Err(ConfigError::KeyUnreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(ConfigError::NoKey)
        }
        other => other,
    }
}

fn from_file(path: &Path) -> Result<ApiKey, ConfigError> {
    let unreadable = |source| ConfigError::KeyUnreadable { path: path.to_owned(), source };
    // Asked before opening, because opening a FIFO would wait for its writer.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    let mut content = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_KEY_BYTES + 1).read_to_end(&mut content)).map_err(unreadable)?;
    let mut warnings = Vec::new();
    if metadata.permissions().mode() & 0o007 != 0 {
        warnings
            .push(format!("every user of this machine can reach the key file {0}: run chmod o= {0}", path.display()));
    }
    checked(&content, KeyOrigin::File(path.to_owned()), warnings)
}

fn checked(content: &[u8], origin: KeyOrigin, warnings: Vec<String>) -> Result<ApiKey, ConfigError> {
    match clean(content) {
        Ok(key) => Ok(ApiKey { secret: SecretString::from(key), origin, warnings }),
        Err(reason) => Err(ConfigError::KeyUnusable { origin: origin.to_string(), reason }),
    }
}

/// The key without white space around it, if it can be sent in a header.
fn clean(content: &[u8]) -> Result<&str, &'static str> {
    if content.len() as u64 > MAX_KEY_BYTES {
        return Err("it is larger than 8 KiB");
    }
    let key = std::str::from_utf8(content.trim_ascii()).map_err(|_| "it is not text")?;
    if key.is_empty() {
        return Err("it is empty");
    }
    if key.chars().any(|letter| letter.is_ascii_control() && !letter.is_ascii_whitespace()) {
        return Err("it has a control character");
    }
    if key.contains(|letter: char| letter.is_ascii_whitespace()) {
        return Err("it has a space or a line break within");
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it has a letter beyond ASCII");
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn key(api: &Api, drop: Option<&DropConfig>, env: &[(&str, &str)]) -> Result<ApiKey, ConfigError> {
        let owned: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        api_key(api, drop, &mut owned.into_iter())
    }

    fn file(folder: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_nearest_key_counts() {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), "api-key", b"from-systemd\n", 0o400);
        let env = [(VARIABLE, "from-variable"), (CREDENTIALS, folder.path().to_str().unwrap())];
        let mut api = Api::default();
        let mut drop = DropConfig::new("a", "/srv/a");
        let found = |api: &Api, drop: &DropConfig, env: &[(&str, &str)]| {
            key(api, Some(drop), env).unwrap().secret.expose_secret().to_owned()
        };
        assert_eq!(found(&api, &drop, &env[1..]), "from-systemd");
        assert_eq!(found(&api, &drop, &[(VARIABLE, " "), env[1]]), "from-systemd");
        assert_eq!(found(&api, &drop, &env), "from-variable");
        api.api_key_file = Some(file(folder.path(), "a", b"  from-api-file \r\n", 0o600));
        assert_eq!(found(&api, &drop, &env), "from-api-file");
        drop.api_key_file = Some(file(folder.path(), "d", b"from-drop-file", 0o600));
        assert_eq!(found(&api, &drop, &env), "from-drop-file");
        assert_eq!(key(&api, None, &env).unwrap().secret.expose_secret(), "from-api-file");
    }

    #[test]
    fn no_key_says_where_to_put_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = key(&Api::default(), None, &[(CREDENTIALS, folder.path().to_str().unwrap())]).unwrap_err();
        assert!(error.to_string().contains("api_key_file"), "{error}");
    }

    #[test]
    fn a_key_that_would_break_the_header_is_refused_and_not_quoted() {
        for content in ["hunter2\nsecond", "hunter2 x", "hunter2\u{0}", "hunter2é", "hunter2\u{7f}", "\u{feff}hunter2"]
        {
            let error = key(&Api::default(), None, &[(VARIABLE, content)]).unwrap_err();
            assert!(matches!(error, ConfigError::KeyUnusable { .. }), "{content:?}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        for content in [&b""[..], b" \n", b"\xff\xfe", &[b'a'; 10_000]] {
            let api = Api { api_key_file: Some(file(folder.path(), "k", content, 0o600)), ..Api::default() };
            assert!(matches!(key(&api, None, &[]), Err(ConfigError::KeyUnusable { .. })));
        }
    }

    #[test]
    fn a_missing_file_does_not_fall_back_to_another_key() {
        let api = Api { api_key_file: Some(PathBuf::from("/nonexistent/key")), ..Api::default() };
        let error = key(&api, None, &[(VARIABLE, "other")]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/key"), "{error}");
        let folder = Api { api_key_file: Some(PathBuf::from("/")), ..Api::default() };
        assert!(key(&folder, None, &[]).is_err());
    }

    #[test]
    fn a_file_that_everybody_can_read_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let warnings = |mode| {
            let api = Api { api_key_file: Some(file(folder.path(), "k", b"key", mode)), ..Api::default() };
            key(&api, None, &[]).unwrap().warnings
        };
        assert_eq!(warnings(0o640), Vec::<String>::new());
        assert!(warnings(0o644)[0].contains("chmod"));
    }

    #[test]
    fn a_key_does_not_show_in_debug_output() {
        let found = key(&Api::default(), None, &[(VARIABLE, "hunter2")]).unwrap();
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}
