//! Topic `customers`: the state of each customer that other services may know; no personal data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Body, Topic};

/// A customer's present state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomerChanged {
    /// Customer.
    #[schemars(with = "String")]
    pub customer_id: Uuid,
    /// Counts the customer's changes from 1.
    pub sequence: i64,
    /// `active`, `suspended`, `excluded`, `closed`.
    pub state: String,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: String,
    /// ISO 4217 of the wallet.
    pub currency: String,
    /// When it changed, ms, database clock.
    pub changed_at: i64,
}

/// What topic `customers` carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::VariantNames)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CustomerMessage {
    /// A change.
    CustomerChanged(CustomerChanged),
}

impl Body for CustomerMessage {
    const TOPIC: Topic = Topic::Customers;
    const TYPES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    fn key(&self) -> String {
        let Self::CustomerChanged(customer) = self;
        customer.customer_id.to_string()
    }

    fn partition_key(&self) -> String {
        self.key()
    }
}
