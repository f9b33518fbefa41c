//! What to change so that the server is as wanted: a pure function of both. Empty when all is right.

use super::catalog::{Acl, Catalog, DefaultGrant, Grant, Membership, ObjectKind, Role};
use super::desired::{Desired, DesiredLogin};
use crate::database::sql::{quote_ident, quote_literal};
use std::collections::{BTreeMap, BTreeSet};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repair {
    /// What differs, from a fixed set: goes into conditions and events.
    pub(super) item: &'static str,
    /// One statement.
    pub(super) sql: String,
}

/// A right on tables, sequences or routines: `(grantee, privilege)`.
type Rights = BTreeSet<(String, &'static str)>;

pub(super) fn repairs(desired: &Desired, found: &Catalog) -> Vec<Repair> {
    let mut all = Vec::new();
    roles(desired, found, &mut all);
    memberships(desired, found, &mut all);
    database(desired, found, &mut all);
    schemas(desired, found, &mut all);
    objects(desired, found, &mut all);
    defaults(desired, found, &mut all);
    settings(desired, found, &mut all);
    all
}

/// Roles that are wanted and absent.
pub(super) fn missing_logins(desired: &Desired, found: &Catalog) -> BTreeSet<String> {
    desired.logins.keys().filter(|name| !found.roles.contains_key(*name)).cloned().collect()
}

/// Roles that may log in and should not: of roles that left the claim, or groups.
pub(super) fn strangers(desired: &Desired, found: &Catalog) -> Vec<String> {
    let unwanted = |(name, role): &(&String, &Role)| role.login && !desired.logins.contains_key(*name);
    found.roles.iter().filter(unwanted).map(|(name, _)| name.clone()).collect()
}

fn push(all: &mut Vec<Repair>, item: &'static str, sql: String) {
    all.push(Repair { item, sql });
}

fn roles(desired: &Desired, found: &Catalog, all: &mut Vec<Repair>) {
    for name in desired.groups() {
        match found.roles.get(name) {
            None => push(
                all,
                "roles",
                format!("CREATE ROLE {} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE", quote_ident(name)),
            ),
            Some(role) => attributes(name, role, None, all),
        }
    }
    for (name, login) in &desired.logins {
        match found.roles.get(name) {
            None => {
                let inherit = if login.inherit { "INHERIT" } else { "NOINHERIT" };
                let sql = format!(
                    "CREATE ROLE {} LOGIN {inherit} NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT {}",
                    quote_ident(name),
                    login.connections
                );
                push(all, "roles", sql);
            }
            Some(role) => attributes(name, role, Some(login), all),
        }
    }
    for name in strangers(desired, found) {
        push(all, "logins nobody wants", format!("ALTER ROLE {} NOLOGIN", quote_ident(&name)));
    }
}

fn attributes(name: &str, role: &Role, login: Option<&DesiredLogin>, all: &mut Vec<Repair>) {
    let mut differing = Vec::new();
    if let Some(login) = login {
        if !role.login {
            differing.push("LOGIN".to_owned());
        }
        if role.inherit != login.inherit {
            differing.push(if login.inherit { "INHERIT" } else { "NOINHERIT" }.to_owned());
        }
        if role.connections != login.connections {
            differing.push(format!("CONNECTION LIMIT {}", login.connections));
        }
        if !role.valid_forever {
            differing.push("VALID UNTIL 'infinity'".to_owned());
        }
    }
    if role.create_role {
        differing.push("NOCREATEROLE".to_owned());
    }
    if role.create_database {
        differing.push("NOCREATEDB".to_owned());
    }
    if !differing.is_empty() {
        push(all, "role attributes", format!("ALTER ROLE {} {}", quote_ident(name), differing.join(" ")));
    }
    // Only a superuser takes these away: one statement each, so that the rest is repaired all the same.
    for (present, attribute) in
        [(role.superuser, "NOSUPERUSER"), (role.replication, "NOREPLICATION"), (role.bypass_rls, "NOBYPASSRLS")]
    {
        if present {
            push(all, "role attributes", format!("ALTER ROLE {} {attribute}", quote_ident(name)));
        }
    }
}

fn memberships(desired: &Desired, found: &Catalog, all: &mut Vec<Repair>) {
    // The administrator acts for both owners; without their rights it could not.
    for owner in [&desired.database_owner, &desired.owner].into_iter().filter(|owner| !found.usable.contains(*owner)) {
        push(all, "memberships", format!("GRANT {} TO CURRENT_USER", quote_ident(owner)));
    }
    let wanted: BTreeSet<(String, String)> =
        desired.logins.iter().map(|(name, login)| (login.group.clone(), name.clone())).collect();
    for Membership { role, member, admin } in &found.memberships {
        if *member == found.administrator {
            continue;
        }
        if !wanted.contains(&(role.clone(), member.clone())) {
            push(all, "memberships", format!("REVOKE {} FROM {}", quote_ident(role), quote_ident(member)));
        } else if *admin {
            let sql = format!("REVOKE ADMIN OPTION FOR {} FROM {}", quote_ident(role), quote_ident(member));
            push(all, "memberships", sql);
        }
    }
    let have: BTreeSet<(String, String)> =
        found.memberships.iter().map(|m| (m.role.clone(), m.member.clone())).collect();
    for (role, member) in wanted.difference(&have) {
        push(all, "memberships", format!("GRANT {} TO {}", quote_ident(role), quote_ident(member)));
    }
}

fn database(desired: &Desired, found: &Catalog, all: &mut Vec<Repair>) {
    let wanted = desired.logins.keys().map(|login| (login.clone(), "CONNECT")).collect();
    let on = format!("DATABASE {}", quote_ident(&desired.database));
    rights("grants on the database", &on, &found.database, &wanted, all);
}

fn schemas(desired: &Desired, found: &Catalog, all: &mut Vec<Repair>) {
    let none = Acl::default();
    for name in ["app", "paddock", "public"] {
        let wanted: Rights = if name == "app" {
            [(desired.read_write.clone(), "USAGE"), (desired.read_only.clone(), "USAGE")].into()
        } else {
            Rights::new()
        };
        let acl = match found.schemas.get(name) {
            Some(acl) => acl,
            None if name == "app" => {
                push(all, "schemas", format!("CREATE SCHEMA app AUTHORIZATION {}", quote_ident(&desired.owner)));
                &none
            }
            None => continue,
        };
        let owner = if name == "app" { &desired.owner } else { &desired.database_owner };
        if name != "public" && found.schemas.contains_key(name) && acl.owner != *owner {
            push(all, "schemas", format!("ALTER SCHEMA {name} OWNER TO {}", quote_ident(owner)));
        }
        rights("grants on schemas", &format!("SCHEMA {name}"), acl, &wanted, all);
    }
}

fn objects(desired: &Desired, found: &Catalog, all: &mut Vec<Repair>) {
    for object in &found.objects {
        let (word, kind) = match object.kind {
            ObjectKind::Table => ("TABLE", "r"),
            ObjectKind::Sequence => ("SEQUENCE", "S"),
            ObjectKind::Routine => ("ROUTINE", "f"),
        };
        if object.acl.owner == desired.owner {
            let on = format!("{word} {}", object.name);
            rights("grants on tables", &on, &object.acl, &object_rights(desired, kind), all);
        } else {
            let sql = format!("ALTER {word} {} OWNER TO {}", object.name, quote_ident(&desired.owner));
            push(all, "owners of tables", sql);
        }
    }
}

/// What the groups may do with tables, sequences and routines.
fn object_rights(desired: &Desired, kind: &str) -> Rights {
    let (write, read): (&[&'static str], &[&'static str]) = match kind {
        "r" => (&["SELECT", "INSERT", "UPDATE", "DELETE"], &["SELECT"]),
        "S" => (&["SELECT", "USAGE"], &["SELECT"]),
        "f" => (&["EXECUTE"], &["EXECUTE"]),
        _ => (&[], &[]),
    };
    let of = |role: &String, privileges: &[&'static str]| -> Vec<(String, &'static str)> {
        privileges.iter().map(|privilege| (role.clone(), *privilege)).collect()
    };
    of(&desired.read_write, write).into_iter().chain(of(&desired.read_only, read)).collect()
}

fn defaults(desired: &Desired, found: &Catalog, all: &mut Vec<Repair>) {
    let owner = quote_ident(&desired.owner);
    let mut groups: BTreeMap<(String, String), Acl> = BTreeMap::new();
    for kind in ["r", "S", "f"] {
        groups.insert(("app".to_owned(), kind.to_owned()), Acl::default());
    }
    // Routines can be run by PUBLIC unless that is taken away for all schemas at once.
    let public = DefaultGrant {
        schema: String::new(),
        kind: "f".to_owned(),
        grant: Grant { grantee: String::new(), privilege: "EXECUTE".to_owned(), grantable: false },
    };
    let fresh = !found.roles.contains_key(&desired.owner);
    for default in found.defaults.iter().chain(fresh.then_some(&public)) {
        let acl = groups.entry((default.schema.clone(), default.kind.clone())).or_default();
        acl.grants.insert(default.grant.clone());
    }
    for ((schema, kind), acl) in &mut groups {
        acl.owner.clone_from(&desired.owner);
        let wanted = if schema == "app" { object_rights(desired, kind) } else { Rights::new() };
        let word = match kind.as_str() {
            "r" => "TABLES",
            "S" => "SEQUENCES",
            "f" => "ROUTINES",
            "T" => "TYPES",
            _ => "SCHEMAS",
        };
        let within = if schema.is_empty() { String::new() } else { format!(" IN SCHEMA {}", quote_ident(schema)) };
        let mut found = Vec::new();
        rights("default privileges", word, acl, &wanted, &mut found);
        all.extend(found.into_iter().map(|repair| Repair {
            item: repair.item,
            sql: format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner}{within} {}", repair.sql),
        }));
    }
}

/// Grants what lacks, revokes what is too much. What the owner has on its own things is its business.
fn rights(item: &'static str, on: &str, acl: &Acl, wanted: &Rights, all: &mut Vec<Repair>) {
    let name = |grantee: &str| if grantee.is_empty() { "PUBLIC".to_owned() } else { quote_ident(grantee) };
    let mut have: BTreeSet<(String, &str)> = BTreeSet::new();
    for grant in acl.grants.iter().filter(|grant| grant.grantee != acl.owner) {
        let right = (grant.grantee.clone(), grant.privilege.as_str());
        if !wanted.contains(&right) {
            push(all, item, format!("REVOKE {} ON {on} FROM {}", grant.privilege, name(&grant.grantee)));
            continue;
        }
        if grant.grantable {
            let sql = format!("REVOKE GRANT OPTION FOR {} ON {on} FROM {}", grant.privilege, name(&grant.grantee));
            push(all, item, sql);
        }
        have.insert(right);
    }
    for (grantee, privilege) in wanted.iter().filter(|right| !have.contains(*right)) {
        push(all, item, format!("GRANT {privilege} ON {on} TO {}", name(grantee)));
    }
}

fn settings(desired: &Desired, found: &Catalog, all: &mut Vec<Repair>) {
    let none = BTreeSet::new();
    for (name, login) in &desired.logins {
        let key = (desired.database.clone(), name.clone());
        let have = found.settings.get(&key).unwrap_or(&none);
        let target = format!("ALTER ROLE {} IN DATABASE {}", quote_ident(name), quote_ident(&desired.database));
        let complete = have.is_subset(&login.settings);
        if !complete {
            push(all, "settings", format!("{target} RESET ALL"));
        }
        for setting in login.settings.iter().filter(|setting| !complete || !have.contains(*setting)) {
            if let Some((key, value)) = setting.split_once('=') {
                push(all, "settings", format!("{target} SET {key} = {}", quote_literal(value)));
            }
        }
    }
    for (database, role) in found.settings.keys() {
        if *database == desired.database && desired.logins.contains_key(role) {
            continue;
        }
        let sql = if role.is_empty() {
            format!("ALTER DATABASE {} RESET ALL", quote_ident(database))
        } else if database.is_empty() {
            format!("ALTER ROLE {} RESET ALL", quote_ident(role))
        } else {
            format!("ALTER ROLE {} IN DATABASE {} RESET ALL", quote_ident(role), quote_ident(database))
        };
        push(all, "settings", sql);
    }
}
