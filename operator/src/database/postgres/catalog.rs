//! What the server's catalogues say of a claim. Reads only.

use super::session::PostgresServer;
use crate::database::{DatabaseError, Identity};
use sqlx::postgres::PgConnection;
use std::collections::{BTreeMap, BTreeSet};

/// Everything of a claim that may differ from what is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Catalog {
    /// Role of the session.
    pub(super) administrator: String,
    /// Roles whose names start with the claim's.
    pub(super) roles: BTreeMap<String, Role>,
    /// Those of them whose rights the administrator has.
    pub(super) usable: BTreeSet<String>,
    /// Memberships from or to one of those.
    pub(super) memberships: BTreeSet<Membership>,
    /// Rights on the database.
    pub(super) database: Acl,
    /// `app`, `paddock` and `public`, those that exist.
    pub(super) schemas: BTreeMap<String, Acl>,
    /// Tables, views, sequences and routines in `app`.
    pub(super) objects: Vec<Object>,
    /// Default privileges of the claim's owner, by schema (empty: all) and kind of object.
    pub(super) defaults: BTreeSet<DefaultGrant>,
    /// Settings by database (empty: all) and role (empty: all), `name=value`.
    pub(super) settings: BTreeMap<(String, String), BTreeSet<String>>,
}

/// Attributes of a role.
#[allow(clippy::struct_excessive_bools, clippy::struct_field_names)] // as the catalogue has them
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) login: bool,
    pub(super) inherit: bool,
    pub(super) superuser: bool,
    pub(super) create_role: bool,
    pub(super) create_database: bool,
    pub(super) replication: bool,
    pub(super) bypass_rls: bool,
    pub(super) connections: i32,
    pub(super) valid_forever: bool,
}

/// `member` is a member of `role`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Membership {
    pub(super) role: String,
    pub(super) member: String,
    pub(super) admin: bool,
}

/// A right on something; the grantee is empty for PUBLIC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    pub(super) grantee: String,
    pub(super) privilege: String,
    pub(super) grantable: bool,
}

/// Owner and rights of something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Acl {
    pub(super) owner: String,
    pub(super) grants: BTreeSet<Grant>,
}

/// Kind of an object in `app`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ObjectKind {
    Table,
    Sequence,
    Routine,
}

/// An object in `app`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) kind: ObjectKind,
    /// Name with schema, quoted by the server.
    pub(super) name: String,
    pub(super) acl: Acl,
}

/// A default privilege.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DefaultGrant {
    /// Empty: all schemas.
    pub(super) schema: String,
    /// `r`, `S`, `f`, `T` or `n`, as the catalogue has it.
    pub(super) kind: String,
    pub(super) grant: Grant,
}

type RoleRow = (String, bool, bool, bool, bool, bool, bool, bool, i32, bool);
type AclRow = (String, String, Option<String>, Option<String>, Option<bool>);
type ObjectRow = (i64, String, String, String, Option<String>, Option<String>, Option<bool>);

/// Reads it all, in the claim's database.
pub(super) async fn read(
    server: &PostgresServer,
    connection: &mut PgConnection,
    identity: &Identity,
) -> Result<Catalog, DatabaseError> {
    let prefix = format!("{}_", identity.database());
    let fault = |error: sqlx::Error| server.fault("read its catalogues", &error);

    let (administrator,): (String,) =
        sqlx::query_as("SELECT current_user::text").fetch_one(&mut *connection).await.map_err(fault)?;
    let roles: Vec<RoleRow> = sqlx::query_as(
        "SELECT rolname::text, rolcanlogin, rolinherit, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
                rolconnlimit, coalesce(rolvaliduntil = 'infinity', true)
         FROM pg_roles WHERE starts_with(rolname::text, $1)",
    )
    .bind(&prefix)
    .fetch_all(&mut *connection)
    .await
    .map_err(fault)?;
    // Since PostgreSQL 16 who makes a role becomes a member that may not use it.
    let usable: Vec<(String,)> = sqlx::query_as(
        "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname::text, $1) AND pg_has_role(oid, 'USAGE')",
    )
    .bind(&prefix)
    .fetch_all(&mut *connection)
    .await
    .map_err(fault)?;
    let memberships: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT DISTINCT r.rolname::text, m.rolname::text, a.admin_option
         FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
         WHERE starts_with(r.rolname::text, $1) OR starts_with(m.rolname::text, $1)",
    )
    .bind(&prefix)
    .fetch_all(&mut *connection)
    .await
    .map_err(fault)?;
    let database: Vec<AclRow> = sqlx::query_as(
        "SELECT '', pg_get_userbyid(d.datdba)::text, CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text ELSE '' END,
                a.privilege_type, a.is_grantable
         FROM pg_database d LEFT JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a ON true
         WHERE d.datname = current_database()",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(fault)?;
    let schemas: Vec<AclRow> = sqlx::query_as(
        "SELECT n.nspname::text, pg_get_userbyid(n.nspowner)::text,
                CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text ELSE '' END, a.privilege_type, a.is_grantable
         FROM pg_namespace n LEFT JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a ON true
         WHERE n.nspname IN ('app', 'paddock', 'public')",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(fault)?;
    let objects: Vec<ObjectRow> = sqlx::query_as(
        "SELECT o.id, o.kind, o.name, pg_get_userbyid(o.owner)::text,
                CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text ELSE '' END, a.privilege_type, a.is_grantable
         FROM (SELECT c.oid::int8 AS id, CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind,
                      format('app.%I', c.relname) AS name, c.relowner AS owner,
                      coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::\"char\" ELSE 'r'::\"char\" END, c.relowner)) AS acl
               FROM pg_class c WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'app')
                                 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
               UNION ALL
               SELECT -p.oid::int8, 'routine', p.oid::regprocedure::text, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
               FROM pg_proc p WHERE p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'app')) o
         LEFT JOIN LATERAL aclexplode(o.acl) a ON true ORDER BY o.name, o.id",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(fault)?;
    let defaults: Vec<(String, String, String, String, bool)> = sqlx::query_as(
        "SELECT coalesce(n.nspname::text, ''), d.kind::text,
                CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text ELSE '' END, a.privilege_type, a.is_grantable
         FROM (SELECT defaclnamespace AS schema, defaclobjtype AS kind, defaclacl AS acl
               FROM pg_default_acl WHERE defaclrole = (SELECT oid FROM pg_roles WHERE rolname = $1)
               UNION ALL
               SELECT 0, 'f', acldefault('f', r.oid) FROM pg_roles r
               WHERE r.rolname = $1 AND NOT EXISTS (SELECT FROM pg_default_acl
                   WHERE defaclrole = r.oid AND defaclnamespace = 0 AND defaclobjtype = 'f')) d
         LEFT JOIN pg_namespace n ON n.oid = d.schema
         CROSS JOIN LATERAL aclexplode(d.acl) a",
    )
    .bind(identity.owner())
    .fetch_all(&mut *connection)
    .await
    .map_err(fault)?;
    let settings: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT coalesce(d.datname::text, ''), coalesce(r.rolname::text, ''), c.setting
         FROM pg_db_role_setting s
         LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
         CROSS JOIN LATERAL unnest(s.setconfig) AS c (setting)
         WHERE starts_with(r.rolname::text, $1) OR (s.setrole = 0 AND d.datname = current_database())",
    )
    .bind(&prefix)
    .fetch_all(&mut *connection)
    .await
    .map_err(fault)?;

    Ok(Catalog {
        administrator,
        roles: roles.into_iter().map(role).collect(),
        usable: usable.into_iter().map(|(name,)| name).collect(),
        memberships: memberships.into_iter().map(|(role, member, admin)| Membership { role, member, admin }).collect(),
        database: acls(database).into_values().next().unwrap_or_default(),
        schemas: acls(schemas),
        objects: collect(objects),
        defaults: defaults
            .into_iter()
            .map(|(schema, kind, grantee, privilege, grantable)| DefaultGrant {
                schema,
                kind,
                grant: Grant { grantee, privilege, grantable },
            })
            .collect(),
        settings: settings.into_iter().fold(BTreeMap::new(), |mut all, (database, role, setting)| {
            all.entry((database, role)).or_insert_with(BTreeSet::new).insert(setting);
            all
        }),
    })
}

fn role(row: RoleRow) -> (String, Role) {
    let (
        name,
        login,
        inherit,
        superuser,
        create_role,
        create_database,
        replication,
        bypass_rls,
        connections,
        valid_forever,
    ) = row;
    (
        name,
        Role {
            login,
            inherit,
            superuser,
            create_role,
            create_database,
            replication,
            bypass_rls,
            connections,
            valid_forever,
        },
    )
}

fn grant(grantee: Option<String>, privilege: Option<String>, grantable: Option<bool>) -> Option<Grant> {
    privilege.map(|privilege| Grant {
        grantee: grantee.unwrap_or_default(),
        privilege,
        grantable: grantable.unwrap_or(false),
    })
}

fn acls(rows: Vec<AclRow>) -> BTreeMap<String, Acl> {
    let mut all: BTreeMap<String, Acl> = BTreeMap::new();
    for (name, owner, grantee, privilege, grantable) in rows {
        let acl = all.entry(name).or_insert_with(|| Acl { owner, grants: BTreeSet::new() });
        acl.grants.extend(grant(grantee, privilege, grantable));
    }
    all
}

fn collect(rows: Vec<ObjectRow>) -> Vec<Object> {
    let mut objects: BTreeMap<i64, Object> = BTreeMap::new();
    for (id, kind, name, owner, grantee, privilege, grantable) in rows {
        let kind = match kind.as_str() {
            "sequence" => ObjectKind::Sequence,
            "routine" => ObjectKind::Routine,
            _ => ObjectKind::Table,
        };
        let object =
            objects.entry(id).or_insert_with(|| Object { kind, name, acl: Acl { owner, grants: BTreeSet::new() } });
        object.acl.grants.extend(grant(grantee, privilege, grantable));
    }
    objects.into_values().collect()
}
