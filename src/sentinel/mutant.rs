//! The guards that safety and liveness rest on, each with a name, so that a test can switch one off
//! and see that this is caught. In a build that ships all of them hold, and asking costs nothing.

macro_rules! guards {
    ($($(#[doc = $what:literal])+ $guard:ident,)+) => {
        /// A guard of the core; its doc comment says what holds while it is on. What the simulator
        /// finds without it stands in `sim/mutants.rs`, and the tests of one sentinel that fail in
        /// `tests/guards.rs`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Guard {
            $($(#[doc = $what])+ $guard,)+
        }

        #[cfg(test)]
        impl Guard {
            /// Every guard.
            pub(crate) const ALL: &[Guard] = &[$(Guard::$guard,)+];

            /// Those without which thousands of drawn runs break nothing: what they prevent is
            /// drawn too rarely, or does no harm that a rule speaks of. Tests of one sentinel miss
            /// each of them.
            pub(crate) const RARE: &[Guard] = &[
                Guard::OthersReplicasTell,
                Guard::DisputedLeftAlone,
                Guard::LedAwayLeft,
                Guard::DemotedTells,
                Guard::PauseFreesAll,
                Guard::NotToItself,
                Guard::OfThisConnection,
                Guard::CopyingCounts,
                Guard::NoRepairInFailover,
                Guard::RefusedWaits,
                Guard::PromotedHasTime,
                Guard::RightsNeeded,
                Guard::OpinionsExpire,
                Guard::StolenNotAdopted,
                Guard::OpinionOfThisMaster,
                Guard::LookupShowsFollowers,
                Guard::NewsOfAll,
                Guard::MasterToldAnew,
                Guard::FlappingRests,
                Guard::CaughtUp,
                Guard::HoldLasts,
                Guard::NoHelloBehindHold,
            ];
        }
    };
}

guards! {
    /// A vote is told once it is on disk.
    VoteOnDisk,
    /// Votes are asked for once the own one is on disk.
    CandidacyOnDisk,
    /// A hello shows what is on disk.
    HelloOnDisk,
    /// An election is won once the own vote is on disk.
    PromotionOnDisk,
    /// Nodes are sent to a new master once that is on disk.
    RepointOnDisk,
    /// A state is written when the last write has ended.
    OneWriteAtATime,
    /// No vote is given that cannot be written.
    DiskForVote,
    /// Nobody stands for election whose disk fails.
    DiskForElection,
    /// A vote is given in a higher epoch than the last one.
    OneVotePerEpoch,
    /// A vote is given in a higher epoch than that of the configuration.
    VoteAboveConfig,
    /// A vote binds the voter: nobody else gets one during its tenure.
    VoteBinds,
    /// It binds the voter not to stand for election itself, too.
    VoteBindsCandidate,
    /// It still does after a restart.
    VoteBindsAfterRestart,
    /// After the tenure of its vote a voter gives the usual lead to sentinels of smaller rank.
    VoterHoldsBack,
    /// Who is no sentinel of the group gets no vote.
    KnownCandidate,
    /// Whoever sees only a minority of the sentinels that it knows votes for no other.
    VoterSeesMajority,
    /// A sentinel without a memory listens before it takes part.
    NewcomerListens,
    /// It votes in no epoch that it heard of while listening.
    NewcomerVotesLater,
    /// A leader needs more than half of all votes.
    Majority,
    /// It needs the quorum, too, where that is more.
    QuorumOfVotes,
    /// Votes count in the epoch for which they were given.
    VotesOfThisEpoch,
    /// An election needs a quorum that sees the master down.
    OdownNeeded,
    /// Sentinels of a higher rank let the others stand first.
    Rank,
    /// After a failed failover the next one waits.
    RetryPause,
    /// The own vote is free again after the own failover was given up.
    OwnVoteFreed,
    /// Whoever gives up an election frees those who voted for it.
    VotersReleased,
    /// It does so as long as it has promoted nobody.
    ReleasedUnacted,
    /// It frees them from their votes in that election only.
    ReleasedOfThisEpoch,
    /// An opinion counts for the master for which it was asked.
    OpinionOfThisMaster,
    /// Opinions are forgotten when the master changes, or its state does.
    OpinionsForgotten,
    /// An opinion that is not given again counts no longer.
    OpinionsExpire,
    /// An epoch that lies absurdly far ahead is refused.
    CredibleEpoch,
    /// Only a configuration of a higher epoch is taken over.
    HigherConfigOnly,
    /// A newer configuration ends a failover of an older epoch, even if it names the same master.
    /// While votes bind there is none: it takes memberships that differ, or a memory that was lost.
    LateFailoverEnds,
    /// Whoever shows an older configuration is told the newer one at once.
    LaggardsTold,
    /// Whoever else answers in a sentinel's place gives no opinion and no vote of that one.
    PeerIsItself,
    /// Of two sentinels at one address the older one is gone.
    OneSentinelPerAddress,
    /// Of two sentinels with one id both take another.
    OneIdPerSentinel,
    /// Until then neither of them stands for election.
    DoubleStandsBack,
    /// A hello that waits for the disk does not go once another master is known.
    StaleHelloRecalled,
    /// Another master ends a failover of the last one.
    ConfigEndsFailover,
    /// A vote in a later epoch than a new configuration goes on binding.
    LaterVoteBinds,
    /// An election ends when the master is back.
    OdownStands,
    /// Who is met after an election has a say in it.
    VotesCountedAgain,
    /// RESET ends a failover.
    ResetEndsFailover,
    /// A replica that says master while it was ours is promoted before others.
    PromotedFirst,
    /// A replica that lost its master while that lived is promoted after others.
    LaggardLast,
    /// A replica is promoted while the votes bind.
    PromotionInTenure,
    /// A promotion that shows no effect is given up then.
    PromotionEnds,
    /// Only an INFO that came after the order shows that a replica was promoted.
    PromotionSeen,
    /// A promotion that is seen once the votes bind no more does not count.
    PromotionCounts,
    /// Writes are held before a replica takes the place of a master that lives.
    WritesHeld,
    /// It takes it once it has all that was written.
    CaughtUp,
    /// It does so while they are held for some time to come.
    HoldLasts,
    /// No hello is published on a node that holds writes.
    NoHelloBehindHold,
    /// All replicas that live are asked for fresh INFO before one is chosen.
    FreshInfoAwaited,
    /// Who is down or silent is not promoted.
    CandidateLives,
    /// Whose INFO is old is not promoted.
    CandidateInfoFresh,
    /// Whose link to the master was down for long is not promoted.
    CandidateLinkTime,
    /// A replica that started without data and never reached the master is not promoted.
    EmptyNotPromoted,
    /// A node that shows the run id of another is promoted only where nobody else can be.
    DoubleNotPromoted,
    /// `replica-priority 0` is respected.
    PriorityZero,
    /// Until a connection tells what a name means, the last lookup shows who follows its node.
    LookupShowsFollowers,
    /// A replica of somebody else's master is not promoted.
    ForeignNotPromoted,
    /// A master that never followed ours is not promoted.
    StrayNotPromoted,
    /// Nodes of somebody else's are not sent anywhere.
    ForeignLeftAlone,
    /// A master that says that it has replicas none of which is ours is somebody else's.
    OthersReplicasTell,
    /// A master at an address that another group has, too, is ours only if it followed ours.
    DisputedLeftAlone,
    /// A master that nobody elected and that follows a stranger is not made a master again.
    LedAwayLeft,
    /// Whom our demoted master follows may lead the group.
    DemotedTells,
    /// The pause after a lost election grows until all votes may be free.
    PauseFreesAll,
    /// A node that is the master by another name is not sent to itself.
    NotToItself,
    /// What a node said on an earlier connection sends it nowhere.
    OfThisConnection,
    /// A replica that copies the master's data counts for `parallel-syncs`.
    CopyingCounts,
    /// Nodes are not put right during a failover.
    NoRepairInFailover,
    /// A node that refused an order is not sent it again at once.
    RefusedWaits,
    /// A leader gives time to a replica of its own that says master: another may have promoted it.
    PromotedHasTime,
    /// Whoever refuses a command of the promotion is no candidate.
    RightsNeeded,
    /// A master that is a node of somebody else's is not adopted.
    StolenNotAdopted,
    /// Nodes are sent to a master that lives and says that it is one.
    MasterSane,
    /// A node that is wrong is put right after a time in which news could have come.
    Patience,
    /// A master too many is put right sooner only if a majority knows of no other configuration.
    PeersConfirm,
    /// A node is put right at once only if all who can be reached know of no other configuration.
    NewsOfAll,
    /// What they said before the node was seen to be wrong does not count.
    NewsAskedSince,
    /// Nor what the master said before.
    MasterToldAnew,
    /// One failover after the other does not go on for ever.
    FlappingRests,
    /// `parallel-syncs` is respected.
    ParallelSyncs,
    /// What a new master said of its role before it was one is no reason to call it down.
    RoleOfThisConfig,
    /// A master that says for long that it is a replica is down.
    DemotedIsDown,
    /// A connection that is silent is opened anew.
    HalfOpenReopened,
    /// Time in which this process did not run counts against nobody.
    StallForgiven,
    /// After a long stall nothing is decided for a while.
    Tilt,
    /// Some time after a RESET all who showed no sign of life are forgotten.
    ResetConfirms,
    /// What is still to be said of a removed group is not said.
    RemovedFallsSilent,
    /// A declared group that was removed stays so after a restart.
    RemovedStays,
    /// A quorum that sees the master down is enough.
    QuorumSuffices,
    /// The vote of a candidate for itself counts.
    OwnVoteCounts,
    /// Who can be promoted is found.
    CandidateFound,
    /// A failover that is ordered, and can be done, is done.
    OrderObeyed,
    /// A failover that was answered OK begins.
    OrderBegins,
    /// What an operator changes is answered once it is on disk.
    ChangeOnDisk,
    /// What SET was told holds.
    SetHolds,
    /// Only a higher epoch is taken over.
    HigherEpochOnly,
    /// A configuration has the epoch in which its leader was elected.
    ConfigOfItsEpoch,
    /// A newer configuration with the same master is no switch.
    SameMasterNoSwitch,
    /// Whoever has more of the master's history is promoted first.
    OffsetCounts,
    /// Silence that is shorter than `down-after` is no death.
    DownAfter,
    /// Who has been refused connections for `refused-after` is down.
    RefusedIsDown,
    /// Whatever is no such refusal ends that time.
    RefusalsInARow,
    /// Whoever answers PING lives.
    PongCounts,
    /// Whoever refuses to be asked lives.
    RefusalLives,
    /// A process that another group had is a stranger wherever it lives.
    ProcessTells,
    /// What a replica has copied from a stranger is not made the group's.
    CopiedNotPromoted,
}

/// Which guards hold: all, but for one that a test switched off.
#[derive(Clone, Copy)]
pub(super) struct Guards {
    #[cfg(test)]
    off: Option<Guard>,
}

impl Guards {
    /// The guards of a core that is made now.
    pub(super) fn new() -> Guards {
        Guards {
            #[cfg(test)]
            off: off::NOW.get(),
        }
    }

    /// True, unless it is the one that is off.
    #[inline]
    pub(super) fn hold(self, guard: Guard) -> bool {
        #[cfg(test)]
        return self.off != Some(guard);
        #[cfg(not(test))]
        {
            let _ = guard;
            true
        }
    }
}

#[cfg(test)]
pub(crate) use off::without;

#[cfg(test)]
mod off {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        /// The guard that cores made by this thread go without.
        pub(super) static NOW: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// Does something in which all cores are made without this guard.
    pub(crate) fn without<T>(guard: Guard, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<Guard>);
        impl Drop for Restore {
            fn drop(&mut self) {
                NOW.set(self.0);
            }
        }
        let _restore = Restore(NOW.replace(Some(guard)));
        work()
    }
}
