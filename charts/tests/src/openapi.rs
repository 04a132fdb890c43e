//! Validation of objects with the subset of OpenAPI schemas that Kubernetes uses. A field that the schema does not name
//! is an error, as in the strict field validation of the API server.

use serde_json::{Map, Value};

/// A schema, with the definitions that it refers to.
#[derive(Clone, Copy)]
pub(crate) struct Schema<'a> {
    pub(crate) schema: &'a Value,
    pub(crate) definitions: &'a Value,
}

impl<'a> Schema<'a> {
    /// Returns the errors in a value, each with its path.
    pub(crate) fn errors(self, value: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        self.visit(value, "", &mut errors);
        errors
    }

    fn visit(self, value: &Value, path: &str, errors: &mut Vec<String>) {
        let schema = self.resolved();
        let name = if path.is_empty() { "the object" } else { path };
        if !self.admits_type(value) {
            errors.push(format!("{name} is {value}, which is not of type {}", kinds(schema).join(" or ")));
            return;
        }
        let allowed = schema["enum"].as_array();
        if allowed.is_some_and(|allowed| !allowed.contains(value)) {
            errors.push(format!("{name} is {value}, but must be one of {}", schema["enum"]));
        }
        match value {
            Value::Object(fields) => self.visit_fields(fields, path, errors),
            Value::Array(elements) if schema["items"].is_object() => {
                for (index, element) in elements.iter().enumerate() {
                    self.at(&schema["items"]).visit(element, &format!("{path}[{index}]"), errors);
                }
            }
            _ => {}
        }
    }

    fn visit_fields(self, fields: &Map<String, Value>, path: &str, errors: &mut Vec<String>) {
        let schema = self.resolved();
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if fields.get(name).is_none_or(Value::is_null) {
                errors.push(format!("{path}.{name} is missing"));
            }
        }
        for (name, value) in fields {
            let path = format!("{path}.{name}");
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(property), _) => self.at(property).visit(value, &path, errors),
                (None, any @ Value::Object(_)) => self.at(any).visit(value, &path, errors),
                (None, Value::Bool(true)) => {}
                // A schema without properties accepts all fields. CustomResourceDefinitions have such a schema for
                // `metadata`.
                (None, _) if schema["properties"].is_null() => {}
                (None, _) if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
                (None, _) => errors.push(format!("{path} is an unknown field")),
            }
        }
    }

    fn admits_type(self, value: &Value) -> bool {
        let schema = self.resolved();
        if let Some(options) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
            // An option without a type is a condition on the value. This validation ignores such conditions.
            let typed = options.iter().filter(|option| !kinds(option).is_empty());
            let mut typed = typed.peekable();
            return typed.peek().is_none() || typed.any(|option| self.at(option).admits_type(value));
        }
        let kinds = kinds(schema);
        kinds.is_empty() || kinds.iter().any(|kind| is_a(value, kind))
    }

    fn resolved(self) -> &'a Value {
        let mut schema = self.schema;
        while let Some(reference) = schema["$ref"].as_str() {
            schema = &self.definitions[reference.rsplit('/').next().unwrap_or(reference)];
        }
        schema
    }

    fn at(self, schema: &'a Value) -> Self {
        Self { schema, ..self }
    }
}

fn kinds(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors(value: Value) -> Vec<String> {
        let definitions = json!({
            "Pod": {
                "type": "object", "required": ["spec"],
                "properties": { "spec": { "$ref": "#/definitions/Spec" }, "metadata": { "type": "object" } },
            },
            "Spec": { "type": "object", "properties": {
                "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                "ports": { "type": "array", "items": { "oneOf": [{ "type": "string" }, { "type": "integer" }] } },
                "restart": { "type": ["string", "null"], "enum": ["Always", "Never"] },
            } },
        });
        Schema { schema: &definitions["Pod"], definitions: &definitions }.errors(&value)
    }

    #[test]
    fn accepts_the_fields_of_the_schema() {
        let good = json!({
            "metadata": { "anything": 1 },
            "spec": { "labels": { "a": "b" }, "ports": [80, "http"], "restart": "Never" },
        });
        assert_eq!(errors(good), [""; 0]);
    }

    #[test]
    fn rejects_unknown_missing_and_mistyped_fields() {
        assert_eq!(errors(json!({ "spec": { "label": {} } })), [".spec.label is an unknown field"]);
        assert_eq!(
            errors(json!({ "spec": { "labels": { "a": 1 } } })),
            [".spec.labels.a is 1, which is not of type string"]
        );
        assert_eq!(errors(json!({ "spec": { "ports": [true] } })).len(), 1);
        assert_eq!(errors(json!({ "spec": { "restart": "Often" } })).len(), 1);
        assert_eq!(errors(json!({})), [".spec is missing"]);
        assert_eq!(errors(json!([])), ["the object is [], which is not of type object"]);
    }
}
