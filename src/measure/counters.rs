//! What was counted, per message and per byte, and what follows from it.

use crate::event::{Event, Reading, Readings};
use std::collections::BTreeMap;

use serde::Serialize;

/// One side's counters over a window, in the shape that is printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SideCounters {
    /// Each event that was asked for.
    #[serde(flatten)]
    pub events: BTreeMap<Event, Counter>,
    /// Instructions per cycle, where both were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<f64>,
    /// Cache misses by cache references, where both were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_miss_rate: Option<f64>,
    /// Cycles per payload byte, where they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycles_per_byte: Option<f64>,
}

/// One event over a window.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Counter {
    /// It was counted.
    Counted {
        /// How often, over all threads of the side.
        value: u64,
        /// Whether the value is extrapolated, because the event had to share its counter.
        scaled: bool,
        /// By messages.
        per_message: f64,
        /// By payload bytes.
        per_byte: f64,
    },
    /// It was not.
    Unavailable {
        /// Why, and what lifts it.
        unavailable: String,
    },
}

impl SideCounters {
    /// Relates `readings` to what was moved in the same window.
    pub(crate) fn new(readings: &Readings, messages: u64, payload_bytes: u64) -> Self {
        let value = |event| readings.get(&event).and_then(Reading::value).map(|value| value as f64);
        let ratio = |of: Option<f64>, to: Option<f64>| Some(of? / to.filter(|to| *to > 0.0)?);
        Self {
            events: readings
                .iter()
                .map(|(&event, reading)| (event, Counter::new(reading, messages, payload_bytes)))
                .collect(),
            ipc: ratio(value(Event::Instructions), value(Event::Cycles)),
            cache_miss_rate: ratio(value(Event::CacheMisses), value(Event::CacheReferences)),
            cycles_per_byte: ratio(value(Event::Cycles), Some(payload_bytes as f64)),
        }
    }
}

impl Counter {
    fn new(reading: &Reading, messages: u64, payload_bytes: u64) -> Self {
        match (reading.value(), reading.reason()) {
            (Some(value), _) => Self::Counted {
                value,
                scaled: reading.is_scaled(),
                per_message: value as f64 / messages.max(1) as f64,
                per_byte: value as f64 / payload_bytes.max(1) as f64,
            },
            (None, reason) => Self::Unavailable { unavailable: reason.unwrap_or_default().to_owned() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(value: u64, running_ns: u64) -> Reading {
        Reading::Counted { value, enabled_ns: 100, running_ns }
    }

    #[test]
    fn ratios_stand_only_where_both_parts_do() {
        let missing = Reading::Unavailable { reason: "no PMU".to_owned() };
        let readings = Readings::from([
            (Event::Cycles, counted(4000, 100)),
            (Event::Instructions, counted(2000, 50)),
            (Event::CacheMisses, counted(7, 100)),
            (Event::CacheReferences, missing),
        ]);
        let side = SideCounters::new(&readings, 10, 1000);
        assert_eq!((side.ipc, side.cache_miss_rate, side.cycles_per_byte), (Some(1.0), None, Some(4.0)));
        let json = serde_json::to_value(&side).unwrap();
        assert_eq!(json["instructions"]["value"], 4000);
        assert_eq!(json["instructions"]["scaled"], true);
        assert_eq!(json["cycles"]["per_message"], 400.0);
        assert_eq!(json["cycles"]["per_byte"], 4.0);
        assert_eq!(json["cache_references"], serde_json::json!({"unavailable": "no PMU"}));
        assert!(json.get("cache_miss_rate").is_none());
    }
}
