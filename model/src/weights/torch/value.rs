//! What a pickle holds, as data: values in an arena that refer to each other by index.

/// A value's place in the arena.
pub(super) type Ref = usize;

/// One value. Nothing here can run: a global is a pair of names, a call is its parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// Byte strings, whose content nobody reads.
    Bytes,
    Tuple(Vec<Ref>),
    List(Vec<Ref>),
    Set(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    Global {
        module: String,
        name: String,
    },
    /// A class or function with its arguments, and what was set on the result.
    Object {
        callable: Ref,
        arguments: Ref,
        state: Option<Ref>,
        /// Items set by key, as on a dictionary.
        items: Vec<(Ref, Ref)>,
    },
    /// What lies outside of the pickle: a tensor's storage.
    Persistent(Ref),
}

/// All values of a pickle.
#[derive(Debug, Default)]
pub(super) struct Values {
    arena: Vec<Value>,
}

impl Values {
    pub(super) fn push(&mut self, value: Value) -> Ref {
        self.arena.push(value);
        self.arena.len() - 1
    }

    pub(super) fn get(&self, place: Ref) -> &Value {
        &self.arena[place]
    }

    pub(super) fn get_mut(&mut self, place: Ref) -> &mut Value {
        &mut self.arena[place]
    }

    /// Returns the entries of a dictionary, also of a subclass of one.
    pub(super) fn entries(&self, place: Ref) -> Option<&[(Ref, Ref)]> {
        match self.get(place) {
            Value::Dict(entries) => Some(entries),
            Value::Object { items, .. } if self.callable(place) == Some(("collections", "OrderedDict")) => {
                Some(items)
            }
            _ => None,
        }
    }

    /// Returns the last value of a text key of a dictionary.
    pub(super) fn entry(&self, place: Ref, key: &str) -> Option<Ref> {
        let mut entries = self.entries(place)?.iter().rev();
        entries
            .find(|&&(found, _)| self.text(found) == Some(key))
            .map(|&(_, value)| value)
    }

    /// Returns an attribute of an object; none of one that has far more attributes than any module.
    pub(super) fn attribute(&self, place: Ref, name: &str) -> Option<Ref> {
        let few = |part: Ref| {
            self.entries(part)
                .is_some_and(|entries| entries.len() <= ATTRIBUTES_MAX)
        };
        let entry = |part: Ref| few(part).then(|| self.entry(part, name))?;
        match self.get(place) {
            Value::Object {
                state: Some(state), ..
            } => match self.get(*state) {
                // Attributes in a dictionary, and those in slots.
                Value::Tuple(parts) => parts.iter().take(2).find_map(|&part| entry(part)),
                _ => entry(*state),
            },
            _ => None,
        }
    }

    /// Returns module and name of what an object was made by.
    pub(super) fn callable(&self, place: Ref) -> Option<(&str, &str)> {
        match self.get(place) {
            Value::Object { callable, .. } => self.global(*callable),
            _ => None,
        }
    }

    /// Returns the arguments of an object.
    pub(super) fn arguments(&self, place: Ref) -> &[Ref] {
        match self.get(place) {
            Value::Object { arguments, .. } => self.sequence(*arguments),
            _ => &[],
        }
    }

    pub(super) fn global(&self, place: Ref) -> Option<(&str, &str)> {
        match self.get(place) {
            Value::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }

    pub(super) fn text(&self, place: Ref) -> Option<&str> {
        match self.get(place) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn integer(&self, place: Ref) -> Option<i64> {
        match self.get(place) {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn float(&self, place: Ref) -> Option<f64> {
        match self.get(place) {
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the elements of a tuple or list; none for anything else.
    pub(super) fn sequence(&self, place: Ref) -> &[Ref] {
        match self.get(place) {
            Value::Tuple(elements) | Value::List(elements) => elements,
            _ => &[],
        }
    }
}

/// A module has some twenty; one that is visited often must not cost much each time.
const ATTRIBUTES_MAX: usize = 1000;
