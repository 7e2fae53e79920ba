//! What a random workload consists of: statements with places for names and numbers.
//!
//! `{t}` is a table of the database, `{new}` a number that was never used, `{few}` one below 20, `{many}` one below 4,000, `{space}` a
//! tablespace, `{extra}` an index that is not needed, `{view}` a materialized view, `{folder}` a folder of the server's. A step whose
//! place has nothing to stand for is not taken.

use crate::majors::Major;

/// Rows of every kind: some long enough to be stored apart, values for each kind of index.
const ROWS: &str = "(n, word, tags, spot, big) select n, md5(n::text), array[n % 50, n % 7], \
     point(n % 100, n % 83), case n % 40 when 0 then (select string_agg(md5(n::text || g), '') \
     from generate_series(1, 150) g) end from generate_series";

/// One kind of step.
#[derive(Debug)]
pub(super) struct Kind {
    /// How often it is taken, beside the others.
    pub(super) weight: usize,
    /// Each is sent on its own.
    pub(super) statements: Vec<String>,
}

/// The steps that are nothing but statements for one database.
pub(super) fn kinds(major: Major) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut add = |weight: usize, statements: &[&str]| {
        let statements = statements.iter();
        kinds.push(Kind {
            weight,
            statements: statements
                .map(|text| text.replace("{rows}", ROWS))
                .collect(),
        });
    };
    rows(&mut add);
    relations(&mut add);
    maintenance(&mut add);
    indexes(&mut add);
    transactions(&mut add);
    if major >= Major::V15 {
        add(
            1,
            &[
                "merge into {t} using (select generate_series(1, {many}) n) s on {t}.n = s.n \
              when matched and s.n % 3 = 0 then delete when matched then update set word = md5({t}.word)",
            ],
        );
    }
    kinds
}

fn rows(add: &mut impl FnMut(usize, &[&str])) {
    add(6, &["insert into {t} {rows}(1, {many}) n"]);
    add(3, &["insert into {t} {rows}({few}, {few}) n"]);
    add(2, &["insert into {t} {rows}(1, 20000) n"]);
    add(4, &["update {t} set word = md5(word) where n % 20 = {few}"]);
    add(
        4,
        &["update {t} set big = md5({many}::text) where n % 97 < {few}"],
    );
    add(
        3,
        &["update {t} set n = n + 1, tags = tags || {few} where n % 31 = {few}"],
    );
    add(3, &["delete from {t} where n % 17 < {few}"]);
    // The end goes, and comes again.
    add(
        3,
        &[
            "delete from {t} where ctid >= '({few}, 0)'",
            "vacuum (freeze) {t}",
            "insert into {t} {rows}(1, {many}) n",
        ],
    );
    add(
        2,
        &["delete from {t} where ctid >= '({few}, 0)'", "vacuum {t}"],
    );
    add(
        2,
        &[
            "copy (select n, md5(n::text), array[n % 9], point(n, 1), null from generate_series(1, {many}) n) \
             to '{folder}/copied'",
            "copy {t} (n, word, tags, spot, big) from '{folder}/copied'",
        ],
    );
    add(
        2,
        &[
            "copy (select n, md5(n::text), array[n % 9], point(n, 1), null from generate_series(1, {many}) n) \
             to '{folder}/copied'",
            "begin; truncate {t}; copy {t} (n, word, tags, spot, big) from '{folder}/copied' (freeze); commit",
        ],
    );
    add(
        2,
        &[
            "select lo_from_bytea(0, decode(repeat(md5(n::text), {many} % 300 + 1), 'hex')) from generate_series(1, 9) n",
        ],
    );
    add(
        1,
        &[
            "select lo_put(loid, {many}, '\\x00112233') from (select distinct loid from pg_largeobject limit 5) l",
        ],
    );
    add(
        1,
        &["select lo_unlink(oid) from pg_largeobject_metadata where oid % 3 = 0"],
    );
    add(
        1,
        &["select nextval('counter') from generate_series(1, {many})"],
    );
    add(
        1,
        &[
            "select setval('counter', {many})",
            "alter sequence counter increment 1",
        ],
    );
}

fn relations(add: &mut impl FnMut(usize, &[&str])) {
    let columns = "(n bigint, word text, tags int[], spot point, big text)";
    for kind in ["table", "unlogged table"] {
        add(
            3,
            &[
                &format!("create {kind} t{{new}} {columns}"),
                "create index t{new}_n on t{new} (n)",
                "insert into t{new} {rows}(1, {many}) n",
            ],
        );
    }
    add(3, &["drop table {t}"]);
    add(
        2,
        &[
            "drop table {t}",
            &format!("create table {{t}} {columns}"),
            "create index {t}_n on {t} (n)",
            "insert into {t} {rows}(1, {few}) n",
        ],
    );
    add(2, &["truncate {t}"]);
    add(2, &["truncate {t}", "insert into {t} {rows}(1, {many}) n"]);
    add(
        1,
        &["begin; truncate {t}; insert into {t} {rows}(1, {few}) n; truncate {t}; commit"],
    );
    add(
        2,
        &[
            "alter table {t} alter n type numeric",
            "alter table {t} alter n type bigint",
        ],
    );
    add(
        1,
        &["alter table {t} add column c{new} float default random()"],
    );
    add(1, &["alter table {t} set unlogged"]);
    add(2, &["alter table {t} set logged"]);
    add(2, &["alter table {t} set tablespace {space}"]);
    add(1, &["alter index {t}_n set tablespace {space}"]);
    add(1, &["alter table {t} set tablespace pg_default"]);
    add(
        1,
        &[
            "create table t{new} tablespace {space} as select * from {t}",
            "create index t{new}_n on t{new} (n)",
        ],
    );
    add(
        1,
        &[
            "create materialized view v{new} as select n, md5(n::text) word from generate_series(1, {many}) n",
        ],
    );
    add(1, &["refresh materialized view {view}"]);
    add(1, &["drop materialized view {view}"]);
    add(
        1,
        &["create temp table passing as select n, md5(n::text) from generate_series(1, {many}) n"],
    );
    add(
        1,
        &["alter table {t} set (fillfactor = 50)", "vacuum full {t}"],
    );
}

fn maintenance(add: &mut impl FnMut(usize, &[&str])) {
    add(4, &["vacuum {t}"]);
    add(2, &["vacuum (freeze) {t}"]);
    add(1, &["vacuum"]);
    add(2, &["vacuum full {t}"]);
    add(2, &["cluster {t} using {t}_n"]);
    add(1, &["reindex table {t}"]);
    add(1, &["reindex table concurrently {t}"]);
    for catalog in [
        "pg_class",
        "pg_attribute",
        "pg_proc",
        "pg_authid",
        "pg_database",
    ] {
        add(1, &[&format!("vacuum full {catalog}")]);
    }
    add(1, &["reindex table pg_class"]);
    add(1, &["analyze"]);
    // After a checkpoint the first hint bit of a page is logged with all of it.
    add(3, &["checkpoint", "select count(*) from {t}"]);
    add(
        2,
        &[
            "update {t} set big = null where n % 50 = {few}",
            "checkpoint",
            "select count(*) from {t}",
        ],
    );
    add(1, &["checkpoint"]);
    add(1, &["select pg_switch_wal()"]);
    add(
        1,
        &["select pg_logical_emit_message(false, 'x', repeat(md5('{new}'), {many}))"],
    );
}

fn indexes(add: &mut impl FnMut(usize, &[&str])) {
    for index in [
        "using btree (word, n)",
        "using hash (word)",
        "using gin (tags)",
        "using gist (spot)",
        "using spgist (spot)",
        "using brin (n) with (pages_per_range = 4)",
        "using btree ((n % 10)) where n > 5",
    ] {
        add(1, &[&format!("create index x{{new}} on {{t}} {index}")]);
    }
    add(1, &["create index concurrently x{new} on {t} (word)"]);
    add(2, &["drop index {extra}"]);
    add(1, &["reindex index {extra}"]);
    add(1, &["alter index {extra} set tablespace {space}"]);
    add(1, &["select brin_summarize_new_values('{extra}')"]);
    add(1, &["select gin_clean_pending_list('{extra}')"]);
}

fn transactions(add: &mut impl FnMut(usize, &[&str])) {
    add(2, &["begin; insert into {t} {rows}(1, {many}) n; rollback"]);
    add(
        1,
        &["begin; truncate {t}; insert into {t} {rows}(1, {few}) n; rollback"],
    );
    add(
        1,
        &["begin; create table t{new} as select * from {t}; create index on t{new} (n); rollback"],
    );
    add(1, &["begin; drop table {t}; rollback"]);
    add(
        2,
        &[
            "do $$ begin for i in 1..150 loop begin insert into {t} (n, word) values (i, md5(i::text)); \
          if i % 3 = 0 then raise exception 'not this one'; end if; \
          exception when raise_exception then null; end; end loop; end $$",
        ],
    );
    add(
        1,
        &[
            "begin; select 1 from {t} where n < {few} for share; savepoint one; \
          update {t} set word = 'shared' where n < {few}; release one; commit",
        ],
    );
    add(
        1,
        &[
            "begin; select 1 from {t} where n < {few} for key share; savepoint one; \
          delete from {t} where n < {few}; rollback to one; commit",
        ],
    );
}
