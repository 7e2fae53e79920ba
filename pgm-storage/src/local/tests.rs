use super::*;

#[test]
fn the_local_engine_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    crate::conformance::check(&LocalStorage::create(directory.path().join("root")).unwrap());
}
