//! Schema pieces that Rust types cannot say.

use schemars::{Schema, SchemaGenerator, json_schema};

/// `metav1.Condition` as a list-map by type.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16,
        "description": "What the operator found, by type: status, reason (stable, for tools) and message (for people).",
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object", "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "Type of the condition."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "True, False or Unknown."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "The metadata.generation that this was computed from."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When the status last flipped."},
                "reason": {"type": "string", "maxLength": 1024, "minLength": 1, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", "description": "A stable CamelCase word."},
                "message": {"type": "string", "maxLength": 32768, "description": "What it means and what to do."}
            }
        }
    })
}

/// A Go-style duration.
pub fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 32, "pattern": crate::duration::PATTERN})
}

/// Amount of money: a decimal string with at most three places.
pub fn amount(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 20, "pattern": "^(0|[1-9][0-9]{0,14})(\\.[0-9]{1,3})?$"})
}

/// ISO 4217 code.
pub fn currency(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[A-Z]{3}$", "maxLength": 3})
}

/// A map from strings to strings: environment variables of a component.
pub fn config(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 8192},
        "x-kubernetes-validations": [{
            "rule": "self.all(k, k.matches('^[A-Z][A-Z0-9_]{0,63}$') && !k.startsWith('PADDOCK_') && k != 'SERVICE_BINDING_ROOT')",
            "message": "names of configuration entries are upper-case environment variables; PADDOCK_* and SERVICE_BINDING_ROOT are set by the operator"
        }]
    })
}

/// Kubernetes quantities by resource name.
pub fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 32, "pattern": "^[0-9]+(\\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
    })
}

/// Labels that select pods.
pub fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 8, "additionalProperties": {"type": "string", "maxLength": 63}})
}

/// A command line.
pub fn command(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 32, "items": {"type": "string", "maxLength": 1024}, "x-kubernetes-list-type": "atomic"})
}

/// Name of a market type: the table in `platform/libs/odds`.
pub fn market_type(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = paddock_odds::MarketType::all().map(paddock_odds::MarketType::name).collect();
    json_schema!({"type": "string", "enum": names})
}
