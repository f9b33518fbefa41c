//! Claims on the real servers.

use crate::support::{api, brands, condition};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams};
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim, Tenant};
use paddock_demo::wait;
use paddock_e2e::on_cluster;

#[test]
fn a_claim_deleted_while_pods_use_it_comes_back_with_its_data() {
    on_cluster(|installation| async move {
        let claims: Api<DatabaseClaim> = api(installation, "zenith-prod");
        let before = claims.get("account-db").await.unwrap();
        let database = before.status.clone().unwrap().database.unwrap();
        let tables = count(installation, &database).await;
        assert!(tables > 0, "account has no tables in {database}");
        let others = brands(installation).await;
        claims.delete("account-db", &DeleteParams::default()).await.unwrap();
        let uid = before.uid();
        wait::until("a new claim of the same name", crate::support::LIMIT, || async {
            match claims.get_opt("account-db").await.map_err(|e| e.to_string())? {
                Some(claim) if claim.uid() != uid => Ok(()),
                _ => Err("not yet".to_owned()),
            }
        })
        .await
        .unwrap();
        condition(&claims, "account-db", "Bound", "True", None).await;
        let after = claims.get("account-db").await.unwrap().status.unwrap().database.unwrap();
        assert_eq!(after, database, "the claim took another database");
        assert_eq!(count(installation, &database).await, tables);
        // The service says that its claims are bound, and the pods that used the old one use the new one: the same pods, which follow
        // their binding.
        let services: Api<BettingService> = api(installation, "zenith-prod");
        condition(&services, "account", "ClaimsBound", "True", None).await;
        wait::until("account serves from its database", crate::support::LIMIT, || async {
            let brand = installation.brand("zenith.localhost").map_err(|e| e.to_string())?;
            brand.register("GBP").await.map(|_| ()).map_err(|e| format!("{e:#}"))
        })
        .await
        .unwrap();
        let tenants: Api<Tenant> = Api::all(installation.client.clone());
        condition(&tenants, "zenith", "Ready", "True", None).await;
        others.pods_still_run(installation).await;
    });
}

/// Tables in schema `app`, as the server's own superuser sees them.
async fn count(installation: &paddock_demo::Installation, database: &str) -> i64 {
    let sql = "select count(*) from information_schema.tables where table_schema = 'app'";
    let args = [
        "exec",
        "-n",
        "paddock-databases",
        "pg-prod-0",
        "--",
        "psql",
        "-h",
        "/tmp",
        "-U",
        "postgres",
        "-d",
        database,
        "-Atc",
        sql,
    ];
    installation.cluster.kubectl(&args).await.unwrap().trim().parse().unwrap()
}
