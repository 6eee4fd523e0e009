//! The JSON of what stands where a schema may stand: an object, a list, true or false.

use super::field::{Field, Out, Present};
use super::path::Path;
use crate::apiextensionsv1::{JsonSchemaProps, SchemaOrArray, SchemaOrBool, SchemaOrNames};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;

/// `Field` by what stands there: what `true`, a list and an object are read as, and how each is written.
macro_rules! schema_or {
    ($ty:ident, $visitor:ident, $expecting:literal, { $($method:item)* }, |$this:ident| $short:expr) => {
        struct $visitor<'a>(&'a Path<'a>);

        impl<'de> Visitor<'de> for $visitor<'_> {
            type Value = $ty;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expecting)
            }
            fn visit_unit<E>(self) -> Result<$ty, E> {
                Ok($ty::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$ty, A::Error> {
                let schema = JsonSchemaProps::read(MapAccessDeserializer::new(map), self.0)?;
                Ok($ty { schema: Some(Box::new(schema)), ..$ty::of_schema() })
            }
            $($method)*
        }

        impl Field for $ty {
            fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let $this = self;
                match &$this.schema {
                    Some(schema) => schema.write(s),
                    None => $short.serialize(s),
                }
            }
            fn read<'de, D: Deserializer<'de>>(d: D, at: &Path<'_>) -> Result<$ty, D::Error> {
                d.deserialize_any($visitor(at))
            }
            fn is_empty(&self) -> bool {
                false
            }
        }
        impl Present for $ty {}
    };
}

impl SchemaOrArray {
    fn of_schema() -> Self {
        Self::default()
    }
}

impl SchemaOrBool {
    /// A schema says what there may be, so there may be something.
    fn of_schema() -> Self {
        Self { allows: true, schema: None }
    }
}

impl SchemaOrNames {
    fn of_schema() -> Self {
        Self::default()
    }
}

schema_or!(
    SchemaOrArray,
    ArrayVisitor,
    "a schema or a list of schemas",
    {
        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<SchemaOrArray, A::Error> {
            let each = Vec::<JsonSchemaProps>::read(SeqAccessDeserializer::new(items), self.0)?;
            Ok(SchemaOrArray { schema: None, each })
        }
    },
    |it| Out(&it.each)
);

schema_or!(
    SchemaOrBool,
    BoolVisitor,
    "a schema, true or false",
    {
        fn visit_bool<E>(self, allows: bool) -> Result<SchemaOrBool, E> {
            Ok(SchemaOrBool { allows, schema: None })
        }
    },
    |it| it.allows
);

schema_or!(
    SchemaOrNames,
    NamesVisitor,
    "a schema or a list of names",
    {
        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<SchemaOrNames, A::Error> {
            let names = Vec::<String>::read(SeqAccessDeserializer::new(items), self.0)?;
            Ok(SchemaOrNames { schema: None, names })
        }
    },
    |it| it.names
);
