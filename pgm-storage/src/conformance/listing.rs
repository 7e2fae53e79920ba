//! Claims about what a listing shows.

use std::ops::ControlFlow;

use super::{list, path, put};
use crate::storage::{ObjectMeta, Storage};

pub(super) fn a_listing_is_complete_and_in_order(storage: &dyn Storage) {
    // `-` and `.` sort before the slash, digits and letters behind it.
    let names = [
        "a", "b-1", "b.x", "b/c/d", "b/c-1/d", "b/c.1", "b0", "bb/x", "z/y/x/w",
    ];
    for name in names {
        put(storage, &format!("list/{name}"), b"x");
    }
    let mut expected: Vec<String> = names.iter().map(|name| format!("list/{name}")).collect();
    expected.sort_unstable();
    assert_eq!(list(storage, "list"), expected);
    assert_eq!(
        list(storage, "list/b"),
        ["list/b/c-1/d", "list/b/c.1", "list/b/c/d"]
    );
    assert!(
        list(storage, "list/a").is_empty(),
        "an object is not below itself"
    );
    assert!(
        list(storage, "list/nothing").is_empty(),
        "a missing folder has no objects"
    );
    let all = list(storage, "");
    assert!(all.is_sorted() && expected.iter().all(|name| all.contains(name)));
}

pub(super) fn a_listing_stops_when_told(storage: &dyn Storage) {
    let mut seen = 0;
    let visit = &mut |_: ObjectMeta| {
        seen += 1;
        if seen == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    storage
        .list(&path("list"), visit)
        .expect("a listing succeeds");
    assert_eq!(seen, 3);
}

pub(super) fn a_listing_may_use_the_storage(storage: &dyn Storage) {
    for name in ["nested/a", "nested/b/c", "nested/d"] {
        put(storage, name, b"x");
    }
    let visit = &mut |meta: ObjectMeta| {
        storage
            .delete(&meta.path)
            .expect("what is listed can be deleted");
        ControlFlow::Continue(())
    };
    storage
        .list(&path("nested"), visit)
        .expect("a listing succeeds");
    assert!(list(storage, "nested").is_empty());
}

pub(super) fn folders_are_named_once_and_in_order(storage: &dyn Storage) {
    for name in [
        "folders/b/1",
        "folders/b/2",
        "folders/a/x/y",
        "folders/a-1/x",
        "folders/object",
    ] {
        put(storage, name, b"x");
    }
    let folders = |prefix| storage.folders(&path(prefix)).expect("folders are named");
    assert_eq!(folders("folders"), ["a", "a-1", "b"]);
    assert_eq!(folders("folders/a"), ["x"]);
    assert!(folders("folders/object").is_empty() && folders("folders/none").is_empty());
    assert!(folders("").contains(&"folders".to_owned()));
}
