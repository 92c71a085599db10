//! How much of the world a search covers.

/// Bounds of one search. Everything within them is searched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub(super) name: &'static str,
    /// Most attempts of each device.
    pub(super) calls: [usize; 2],
    /// Operations in one call: from one to this.
    pub(super) operations: u8,
    /// The first device uses one key for all it says.
    pub(super) keys: bool,
    /// Requests to the cache and its answers get lost.
    pub(super) lossy: bool,
    /// Those that the devices call.
    pub(super) servers: &'static [u8],
    /// The second server cannot reach the cache.
    pub(super) cut: bool,
    /// The second server writes to the database first, with versions that the cache gave.
    pub(super) synchronous: bool,
    /// The cache hears of what was applied a step later.
    pub(super) slow_settle: bool,
    /// In the beginning the pair is liked and both stores know it; otherwise nobody knows anything.
    pub(super) counter_known: bool,
    /// How far clocks of servers that write around the cache are ahead of it.
    pub(super) ahead: u8,
    /// What can make no difference any more is forgotten; not with keys.
    pub(super) reduced: bool,
}

const BASE: Scope = Scope {
    name: "base",
    calls: [2, 1],
    operations: 1,
    keys: false,
    lossy: false,
    servers: &[0],
    cut: false,
    synchronous: false,
    slow_settle: false,
    counter_known: true,
    ahead: 0,
    reduced: false,
};

pub(super) const COUNT: Scope = Scope { name: "count missing", counter_known: false, ..BASE };
pub(super) const CUT: Scope = Scope { name: "cut", servers: &[0, 1], cut: true, ..BASE };
pub(super) const AHEAD: Scope = Scope { name: "ahead", ahead: 6, calls: [1, 1], ..CUT };
pub(super) const LOSSY: Scope = Scope { name: "lossy", lossy: true, calls: [2, 0], ..BASE };
pub(super) const BATCHES: Scope = Scope { name: "batches", operations: 2, calls: [1, 1], ..CUT };
pub(super) const SYNCHRONOUS: Scope =
    Scope { name: "synchronous", servers: &[0, 1], calls: [1, 1], synchronous: true, slow_settle: true, ..BASE };
pub(super) const SYNCHRONOUS_BATCHES: Scope =
    Scope { name: "synchronous batches", servers: &[1], operations: 2, slow_settle: false, ..SYNCHRONOUS };
pub(super) const KEYS: Scope = Scope { name: "keys", keys: true, ..CUT };

/// Enough for most planted bugs.
pub(super) const SMALL_COUNT: Scope = Scope { calls: [1, 1], ..COUNT };
pub(super) const SMALL_CUT: Scope = Scope { calls: [1, 1], ..CUT };

/// Four calls: two of each device, or three of one.
const COUNT_2_2: Scope = Scope { name: "count missing, 2 + 2", calls: [2, 2], reduced: true, ..COUNT };
const COUNT_3_1: Scope = Scope { name: "count missing, 3 + 1", calls: [3, 1], ..COUNT_2_2 };

pub(super) const SCOPES: [Scope; 10] =
    [COUNT, COUNT_2_2, COUNT_3_1, CUT, AHEAD, LOSSY, BATCHES, SYNCHRONOUS, SYNCHRONOUS_BATCHES, KEYS];

/// Searched only when asked for: a million states and more each, which an optimised build passes in minutes.
pub(super) const DEEP: [Scope; 11] = [
    Scope { name: "count missing, settled late", slow_settle: true, ..COUNT },
    Scope { name: "cut, settled late", slow_settle: true, ..CUT },
    Scope { name: "ahead, three calls", calls: [2, 1], ..AHEAD },
    Scope { name: "lossy, two devices", calls: [1, 1], servers: &[0, 1], cut: true, ..LOSSY },
    Scope { name: "lossy batches", lossy: true, ..BATCHES },
    Scope { name: "synchronous, three calls", calls: [2, 1], slow_settle: false, ..SYNCHRONOUS },
    Scope { name: "synchronous and batches", operations: 2, calls: [1, 1], ..SYNCHRONOUS },
    Scope { name: "lossy keys", calls: [2, 1], lossy: true, ..KEYS },
    Scope { name: "cut, 2 + 2", calls: [2, 2], reduced: true, ..CUT },
    Scope { name: "cut, 3 + 1", calls: [3, 1], reduced: true, ..CUT },
    Scope { name: "synchronous, 2 + 2", calls: [2, 2], slow_settle: false, reduced: true, ..SYNCHRONOUS },
];
