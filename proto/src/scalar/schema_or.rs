//! Places of a CustomResourceDefinition's schema where a schema may stand, or something shorter: a list of schemas, true or
//! false, a list of names.

use crate::generated::k8s::io::apiextensions_apiserver::pkg::apis::apiextensions::v1::JsonSchemaProps;

/// `items`: a schema for all items, or one for each place.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SchemaOrArray {
    /// The one for all.
    #[prost(message, optional, boxed, tag = "1")]
    pub schema: Option<Box<JsonSchemaProps>>,
    /// One for each place.
    #[prost(message, repeated, tag = "2")]
    pub each: Vec<JsonSchemaProps>,
}

/// `additionalProperties`: a schema, or whether there may be any.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SchemaOrBool {
    /// Whether there may be any.
    #[prost(bool, tag = "1")]
    pub allows: bool,
    /// What they must be.
    #[prost(message, optional, boxed, tag = "2")]
    pub schema: Option<Box<JsonSchemaProps>>,
}

/// `dependencies`: a schema, or fields that must be there too.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SchemaOrNames {
    /// The schema.
    #[prost(message, optional, boxed, tag = "1")]
    pub schema: Option<Box<JsonSchemaProps>>,
    /// The fields.
    #[prost(string, repeated, tag = "2")]
    pub names: Vec<String>,
}
