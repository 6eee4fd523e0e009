//! One expression: read, held against its schema, reckoned, evaluated. All that is known of the library stands here.

use super::functions;
use crate::custom::structural::{Kind, Node, pattern};
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::{Context, Env, ExecutionError, Program, Value, extensions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

/// The language with its standard functions, those for texts, lists and numbers, and Kubernetes' own.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    let added = [
        env.add_extension(extensions::strings),
        env.add_extension(extensions::lists),
        env.add_extension(extensions::math),
        env.add_extension(functions::extension),
    ];
    added.into_iter().for_each(|one| one.expect("no two extensions bring the same function"));
    Arc::new(env)
});

/// Functions that go through a list, each time they are called: they cost what a loop costs.
const LOOPS: &[&str] =
    &["isSorted", "sum", "min", "max", "indexOf", "lastIndexOf", "reverse", "flatten", "sort", "join"];
/// Those that hold each item against each.
const LOOPS_IN_LOOPS: &[&str] = &["distinct", "sets.contains", "sets.equivalent", "sets.intersects"];
/// Functions that take a regular expression, which is compiled at each call: about as long as so many steps.
const PATTERNS: &[&str] = &["matches", "find", "findAll"];
const STEPS_OF_A_PATTERN: u64 = 50;

/// Names that stand for types.
const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "list",
    "map",
    "math",
    "null_type",
    "optional",
    "string",
    "strings",
    "lists",
    "timestamp",
    "type",
    "uint",
    "google",
    "base64",
    "kubernetes",
    "net",
];

/// An expression over `self`, and perhaps `oldSelf`.
#[derive(Debug)]
pub struct Expression {
    program: Program,
    pub uses_old: bool,
    /// How many steps are done once, in a loop, in a loop in a loop, and so on.
    steps: Vec<u64>,
    /// It makes lists of texts.
    splits: bool,
}

impl Expression {
    /// Reads an expression, and says what is wrong with it.
    pub fn compile(text: &str, node: &Node, is_root: bool) -> Result<Expression, String> {
        let compiled = catch_unwind(AssertUnwindSafe(|| LANGUAGE.compile(text)));
        let program = match compiled {
            Ok(Ok(program)) => program,
            Ok(Err(errors)) => return Err(errors.to_string()),
            Err(_) => return Err("the expression cannot be read".to_owned()),
        };
        let mut look = Look { node, is_root, loops: 0, bound: Vec::new(), found: Found::default() };
        look.at(program.expression())?;
        let Found { uses_old, steps, splits } = look.found;
        Ok(Expression { program, uses_old, steps, splits })
    }

    /// The most steps that it may take.
    pub fn cost(&self, value: &serde_json::Value, old: Option<&serde_json::Value>) -> u64 {
        let most = |value: &serde_json::Value| largest(value, self.splits);
        // A collection may be written down in the expression, too.
        let many = most(value).max(old.map_or(0, most)).max(self.steps.iter().sum());
        self.steps.iter().rev().fold(0, |inner, steps| inner.saturating_mul(many).saturating_add(*steps))
    }

    /// What it says.
    pub fn is_true(&self, value: Value, old: Option<Value>, optional: bool) -> Result<bool, String> {
        match self.run(value, old, optional)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("it says {other:?}, which is neither true nor false")),
        }
    }

    /// The text that it makes, if it makes one that can be told.
    pub fn text(&self, value: Value, old: Option<Value>, optional: bool) -> Option<String> {
        match self.run(value, old, optional) {
            Ok(Value::String(text)) if !text.trim().is_empty() && !text.contains('\n') => Some(text.to_string()),
            _ => None,
        }
    }

    fn run(&self, value: Value, old: Option<Value>, optional: bool) -> Result<Value, String> {
        let run = || {
            let mut context = Context::with_env(LANGUAGE.clone());
            context.add_variable_from_value("self", value);
            match (old, optional) {
                (Some(old), false) => context.add_variable_from_value("oldSelf", old),
                (old, true) => context.add_variable_from_value("oldSelf", optional_of(old)),
                (None, false) => {}
            }
            self.program.execute(&context).map_err(|e| e.to_string())
        };
        // Nobody's library takes the server down.
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("the expression cannot be evaluated".to_owned()))
    }
}

fn optional_of(old: Option<Value>) -> Value {
    let optional = old.map_or_else(cel::objects::OptionalValue::none, cel::objects::OptionalValue::of);
    Value::Opaque(Arc::new(optional))
}

/// How many things the largest collection has, at any depth.
fn largest(value: &serde_json::Value, texts: bool) -> u64 {
    let inner = |values: &mut dyn Iterator<Item = &serde_json::Value>, count: usize| {
        values.map(|v| largest(v, texts)).max().unwrap_or(0).max(count as u64)
    };
    match value {
        serde_json::Value::Array(items) => inner(&mut items.iter(), items.len()),
        serde_json::Value::Object(map) => inner(&mut map.values(), map.len()),
        serde_json::Value::String(text) if texts => text.len() as u64,
        _ => 1,
    }
}

#[derive(Default)]
struct Found {
    uses_old: bool,
    steps: Vec<u64>,
    splits: bool,
}

/// A walk through an expression: what it uses, and whether that is there.
struct Look<'n> {
    node: &'n Node,
    is_root: bool,
    loops: usize,
    /// The names that loops around here have given.
    bound: Vec<String>,
    found: Found,
}

impl Look<'_> {
    fn at(&mut self, expression: &IdedExpr) -> Result<(), String> {
        self.takes(1, 0);
        match &expression.expr {
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                self.field(&select.operand, &select.field)?;
                self.at(&select.operand)
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(c) => {
                self.at(&c.iter_range)?;
                self.at(&c.accu_init)?;
                self.loops += 1;
                let before = self.bound.len();
                self.bound.extend([c.iter_var.clone(), c.accu_var.clone()]);
                self.bound.extend(c.iter_var2.clone());
                for part in [&c.loop_cond, &c.loop_step, &c.result] {
                    self.at(part)?;
                }
                self.bound.truncate(before);
                self.loops -= 1;
                Ok(())
            }
            Expr::List(list) => list.elements.iter().try_for_each(|e| self.at(e)),
            Expr::Map(map) => map.entries.iter().try_for_each(|e| self.entry(&e.expr)),
            Expr::Struct(of) => of.entries.iter().try_for_each(|e| self.entry(&e.expr)),
            Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    /// Reckons with steps, done once for everything that the loops here go through, and those of a function in them.
    fn takes(&mut self, steps: u64, more_loops: usize) {
        let depth = self.loops + more_loops;
        if self.found.steps.len() <= depth {
            self.found.steps.resize(depth + 1, 0);
        }
        self.found.steps[depth] += steps;
    }

    fn call(&mut self, call: &CallExpr) -> Result<(), String> {
        let name = call.func_name.as_str();
        let target = call.target.as_deref();
        // `math.abs(x)` is a function of that name, `self.abs(x)` one of a value.
        let qualified = target.and_then(path).map(|space| format!("{space}.{name}"));
        let qualified = qualified.filter(|name| is_declared(&format!("{name}()")));
        let called = qualified.as_deref().unwrap_or(name);
        // What is wrong is told from left to right.
        target.filter(|_| qualified.is_none()).map_or(Ok(()), |target| self.at(target))?;
        // The rest are operators, and what macros are made of.
        let is_named = name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.contains('@');
        let asked = if target.is_some() { format!("null.{name}()") } else { format!("{name}()") };
        if is_named && qualified.is_none() && !is_declared(&asked) {
            return Err(format!("undeclared reference to '{name}': there is no such function"));
        }
        if PATTERNS.contains(&called) {
            self.takes(STEPS_OF_A_PATTERN, 0);
            literal_pattern(call)?;
        }
        self.found.splits |= ["split", "findAll"].contains(&called);
        let loops = if LOOPS_IN_LOOPS.contains(&called) { 2 } else { usize::from(LOOPS.contains(&called)) };
        self.takes(1, loops);
        call.args.iter().try_for_each(|e| self.at(e))
    }

    fn entry(&mut self, entry: &EntryExpr) -> Result<(), String> {
        match entry {
            EntryExpr::StructField(field) => self.at(&field.value),
            EntryExpr::MapEntry(entry) => self.at(&entry.key).and_then(|()| self.at(&entry.value)),
        }
    }

    fn name(&mut self, name: &str) -> Result<(), String> {
        self.found.uses_old |= name == "oldSelf";
        let known = ["self", "oldSelf"].contains(&name)
            || name.starts_with('@')
            || self.bound.iter().any(|bound| bound == name)
            || TYPES.contains(&name);
        if known { Ok(()) } else { Err(format!("undeclared reference to '{name}'")) }
    }

    /// A field of `self` that the schema does not name is a slip of the pen.
    fn field(&self, operand: &IdedExpr, field: &str) -> Result<(), String> {
        let Some(node) = self.schema_of(operand) else { return Ok(()) };
        let is_object = node.kind == Some(Kind::Object) && node.values.is_none() && !node.any_values;
        let is_root = self.is_root && std::ptr::eq(node, self.node);
        let of_all = (is_root || node.embedded) && ["apiVersion", "kind", "metadata"].contains(&field);
        if is_object && !of_all && super::values::property(node, field).is_none() {
            return Err(format!("undefined field '{field}'"));
        }
        Ok(())
    }

    /// What the schema says of an expression that is a path from `self`.
    fn schema_of(&self, expression: &IdedExpr) -> Option<&Node> {
        match &expression.expr {
            Expr::Ident(name) if name == "self" && !self.bound.contains(name) => Some(self.node),
            Expr::Select(select) => {
                let outer = self.schema_of(&select.operand)?;
                super::values::property(outer, &select.field).map(|(_, node)| node)
            }
            _ => None,
        }
    }
}

/// A name with dots, if an expression is nothing else.
fn path(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", path(&select.operand)?, select.field)),
        _ => None,
    }
}

/// Whether the function of a call is there, for arguments of whatever type. The library has no list of its functions; it
/// tells a call of one that is not there from one that does not fit.
fn is_declared(call: &str) -> bool {
    let asked = || LANGUAGE.compile(call).ok().map(|call| call.execute(&Context::with_env(LANGUAGE.clone())));
    let answer = catch_unwind(AssertUnwindSafe(asked));
    !matches!(answer, Err(_) | Ok(None | Some(Err(ExecutionError::UndeclaredReference(_)))))
}

/// A pattern that stands in the rule itself is read beforehand.
fn literal_pattern(call: &CallExpr) -> Result<(), String> {
    match call.args.get(usize::from(call.target.is_none())).map(|arg| &arg.expr) {
        Some(Expr::Literal(LiteralValue::String(text))) => pattern(text.inner())
            .map(drop)
            .map_err(|why| format!("{:?} is not a regular expression: {why}", text.inner())),
        _ => Ok(()),
    }
}
