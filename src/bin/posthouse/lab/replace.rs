//! Files that are there whole, or as they were.
//!
//! Contract: [`replace`] puts a new text in the place of a file that exists. Who reads it, also after a crash amid of
//! it, finds the old text or the new one.
//! Not here: making the file, which fails early where it cannot be written.

use std::path::Path;

/// The text is written beside it first, under a name of our own, with the permissions of the file. Of a symbolic link,
/// what it leads to is replaced; what is no file, such as a pipe, is written to.
pub fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = path.canonicalize()?;
    if !path.is_file() {
        return std::fs::write(&path, text);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        let mut file = std::fs::File::create_new(&new)?;
        file.set_permissions(std::fs::metadata(&path)?.permissions())?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    })();
    if written.is_err() {
        // The name is ours, whatever came of it.
        let _ = std::fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_permissions_and_what_a_link_leads_to() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("x.toml"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing stays behind");
        assert!(replace(&folder.path().join("none"), "new").is_err());
    }
}
