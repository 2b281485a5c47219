//! What is announced: Redis's own event names, levels and payloads.

use super::types::GroupName;

/// How much an event or a sentence matters: Redis's log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only for those who look for it; never published.
    Debug,
    /// Rarely useful.
    Verbose,
    /// What an operator wants to know.
    Notice,
    /// What an operator must know; runs the notification script.
    Warning,
}

/// One thing that happened, as subscribers and the log are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which event: the channel's name and its level hang on it.
    pub kind: EventKind,
    /// The group whose scripts it concerns, if one.
    pub group: Option<GroupName>,
    /// The message's text.
    pub payload: String,
}

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident $name:literal $level:ident,)*) => {
        /// The events of Sentinel by channel name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum EventKind { $(#[doc = $name] $variant,)* }

        impl EventKind {
            /// Every event.
            pub const ALL: &[EventKind] = &[$(EventKind::$variant),*];

            /// The channel, such as `+switch-master`.
            pub const fn name(self) -> &'static str {
                match self { $(EventKind::$variant => $name,)* }
            }

            /// The level at which Redis logs it.
            pub const fn level(self) -> Level {
                match self { $(EventKind::$variant => Level::$level,)* }
            }
        }
    };
}

impl EventKind {
    /// True for what is told of one group, and true of all that know the sentinel it is about.
    pub fn is_of_all_groups(self) -> bool {
        matches!(self, EventKind::SentinelAddressSwitch | EventKind::SentinelInvalidAddr)
    }
}

events! {
    Monitor "+monitor" Warning,
    Unmonitor "-monitor" Warning,
    Set "+set" Warning,
    ResetMaster "+reset-master" Warning,
    Slave "+slave" Notice,
    Sentinel "+sentinel" Notice,
    SentinelAddressSwitch "+sentinel-address-switch" Notice,
    SentinelAddressUpdate "+sentinel-address-update" Notice,
    SentinelInvalidAddr "+sentinel-invalid-addr" Notice,
    NewEpoch "+new-epoch" Warning,
    VoteForLeader "+vote-for-leader" Warning,
    ConfigUpdateFrom "+config-update-from" Warning,
    SwitchMaster "+switch-master" Warning,
    Reboot "+reboot" Notice,
    RoleChange "+role-change" Verbose,
    RoleMismatch "-role-change" Verbose,
    Sdown "+sdown" Warning,
    SdownEnd "-sdown" Warning,
    Odown "+odown" Warning,
    OdownEnd "-odown" Warning,
    TryFailover "+try-failover" Warning,
    ElectedLeader "+elected-leader" Warning,
    AbortNotElected "-failover-abort-not-elected" Warning,
    StateSelectSlave "+failover-state-select-slave" Warning,
    AbortNoGoodSlave "-failover-abort-no-good-slave" Warning,
    SelectedSlave "+selected-slave" Warning,
    StateSendSlaveofNoone "+failover-state-send-slaveof-noone" Notice,
    AbortSlaveTimeout "-failover-abort-slave-timeout" Warning,
    StateWaitPromotion "+failover-state-wait-promotion" Notice,
    PromotedSlave "+promoted-slave" Warning,
    StateReconfSlaves "+failover-state-reconf-slaves" Warning,
    SlaveReconfSent "+slave-reconf-sent" Notice,
    SlaveReconfInprog "+slave-reconf-inprog" Notice,
    SlaveReconfDone "+slave-reconf-done" Notice,
    SlaveReconfSentTimeout "-slave-reconf-sent-timeout" Notice,
    FailoverEndForTimeout "+failover-end-for-timeout" Warning,
    FailoverEnd "+failover-end" Warning,
    ConvertToSlave "+convert-to-slave" Notice,
    FixSlaveConfig "+fix-slave-config" Notice,
    Tilt "+tilt" Warning,
    TiltEnd "-tilt" Warning,
    ScriptError "-script-error" Warning,
    ScriptTimeout "-script-timeout" Warning,
    ScriptChild "+script-child" Debug,
    ScriptChildEnd "-script-child" Debug,
    CmdLinkReconnection "-cmd-link-reconnection" Debug,
    PubsubLinkReconnection "-pubsub-link-reconnection" Debug,
    /// Our own: a node or sentinel refuses a command that we need.
    ConfigError "+config-error" Warning,
    /// Our own: it refuses it no more.
    ConfigErrorEnd "-config-error" Warning,
}
