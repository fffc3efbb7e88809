//! Options of section `store`: where events are kept, and how many may wait to be written.
//!
//! The embedded engine maps one file into memory, gathers waiting transactions into a group, and makes the group durable
//! with one write. The size of the map is address space and an upper bound of the file, not memory that is taken.
//!
//! It is not the place of what one inbox gathers before it commits: that is in section `broker`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::field::{Bounds, FieldType, Kind};
use crate::rule::Rule;

/// Size of a page of the map: 4 KiB.
const PAGE_BYTES: u64 = 4_096;

/// What keeps the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreEngine {
    /// A file in `data_directory`, for a node that stands alone.
    #[default]
    Embedded,
}

impl StoreEngine {
    /// The name that a configuration gives the engine.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
        }
    }
}

impl FieldType for StoreEngine {
    const KIND: Kind = Kind::Text;

    fn to_value(&self) -> Option<Value> {
        Some(Value::String(self.name().to_owned()))
    }
}

section! {
    /// Where events are kept.
    "store" => StoreOptions {
        /// What keeps the events. embedded: a file in data_directory, for a node that stands alone.
        engine: StoreEngine = StoreEngine::Embedded, Bounds::Choice(&[StoreEngine::Embedded.name()]);
        /// Directory of the embedded engine; it is made if it is not there. One node at a time can use it.
        data_directory: PathBuf = PathBuf::from("data"), Bounds::Described("a path");
        /// Size to which the file of the embedded engine may grow. A multiple of 4_096; it may be raised later.
        map_bytes_max: u64 = 64 << 30, Bounds::Whole(16 << 20, 64 << 40);
        /// Transactions that wait to be written; more are refused for the moment with 503.
        commit_queue_max: usize = 8_192, Bounds::Whole(1, 1_048_576);
        /// Size of the transactions that are made durable with one write.
        group_bytes_max: usize = 8 << 20, Bounds::Whole(1 << 16, 1 << 30);
        /// Transactions that are made durable with one write.
        group_transactions_max: usize = 1_024, Bounds::Whole(1, 65_536);
        /// Read transactions that are open at the same time.
        readers_max: u32 = 1_024, Bounds::Whole(1, 65_536);
    }
}

impl StoreOptions {
    /// A small map, short queues and groups.
    pub(crate) fn simulation() -> Self {
        Self {
            map_bytes_max: 16 << 20,
            commit_queue_max: 16,
            group_bytes_max: 1 << 16,
            group_transactions_max: 8,
            readers_max: 16,
            ..Self::default()
        }
    }
}

/// What the declarations above cannot say.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        fields: &["store.data_directory"],
        broken: |options| options.store.data_directory.as_os_str().is_empty().then(|| "must not be empty".to_owned()),
    },
    Rule {
        fields: &["store.map_bytes_max"],
        broken: |options| {
            let bytes = options.store.map_bytes_max;
            (!bytes.is_multiple_of(PAGE_BYTES)).then(|| format!("must be a multiple of 4_096, but is {bytes}"))
        },
    },
    Rule {
        fields: &["store.group_bytes_max", "store.map_bytes_max"],
        broken: |options| {
            let store = &options.store;
            (store.group_bytes_max as u64 > store.map_bytes_max)
                .then(|| "must be at most store.map_bytes_max: a larger group could not be written".to_owned())
        },
    },
];
