//! The rules by which runs are judged, each with its name in reports, and why it is one.

macro_rules! rules {
    ($(#[doc = $why:literal] $rule:ident = $name:literal,)+) => {
        /// A rule that no run may break.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Rule {
            $(#[doc = $why] $rule,)+
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Rule] = &[$(Rule::$rule,)+];

            /// Its name in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Rule::$rule => $name,)+
                }
            }

            /// Why it is one, in a sentence.
            pub fn why(self) -> &'static str {
                let why = match self {
                    $(Rule::$rule => $why,)+
                };
                why.trim_start()
            }
        }
    };
}

impl Rule {
    /// It can be judged whatever nodes are called: it is about votes, epochs and groups.
    pub(super) fn is_of_elections(self) -> bool {
        matches!(
            self,
            Rule::OneVotePerEpoch
                | Rule::AVoteBinds
                | Rule::VotesAreForSentinelsOfTheGroup
                | Rule::NoVoteWhileTheDiskFails
                | Rule::NobodyStandsWhoCannotWrite
                | Rule::NobodyStandsWhoseIdAnotherHas
                | Rule::AnIdThatIsGivenUpStaysSo
                | Rule::NewcomersListenFirst
                | Rule::NewcomersVoteInLaterEpochs
                | Rule::AMajorityBeforePromotion
                | Rule::OneLeaderPerEpoch
                | Rule::LeadersActOneAfterTheOther
                | Rule::ConfigurationsAreElected
                | Rule::ConfigEpochsNeverGoBack
                | Rule::EpochsNeverGoBack
                | Rule::EpochsStayCredible
                | Rule::OneWriteAtATime
                | Rule::WhatIsRemovedStaysSo
        )
    }
}

rules! {
    /// What is said of a vote, an epoch or a configuration must not be taken back by a crash.
    DurableBeforeSpoken = "durable before spoken",
    /// An OK to a change is said once the change is on disk.
    DurableBeforeAnswered = "durable before answered",
    /// A state is written when the last write has ended, else an older one may end later.
    OneWriteAtATime = "one write at a time",
    /// Whoever says hello names what its disk holds, no older configuration.
    AHelloShowsTheNewestConfiguration = "a hello shows the newest configuration",
    /// All that is on disk was announced: clients and exporters only listen.
    WhoListensKnowsWhatIsOnDisk = "who listens knows what is on disk",
    /// What is answered was announced, and the other way round.
    WhoListensKnowsWhatWhoAsksIsTold = "who listens knows what who asks is told",
    /// A change is announced once, and only what changed is.
    EachChangeIsToldOnce = "each change is told once",
    /// A switch leads from the master that was told to the one that is on disk, and has a reason.
    ASwitchLeadsFromMasterToMaster = "a switch leads from master to master",
    /// The events of a failover come one after the other, until it ends.
    AFailoverIsToldFromBeginningToEnd = "a failover is told from beginning to end",
    /// What a peer is told of a master, down or not, is what was announced.
    OpinionsAreAnnounced = "opinions are announced",
    /// Other sentinels can read what is said.
    WellFormedHello = "well-formed hello",
    /// Other sentinels can read what is said.
    WellFormedVote = "well-formed vote",
    /// A vote once given is never given otherwise: else two are elected in one epoch.
    OneVotePerEpoch = "one vote per epoch",
    /// Else leaders of neighbouring epochs act at once.
    AVoteBinds = "a vote binds",
    /// There is no vote in an epoch that has its configuration already.
    VotesAreForWhatIsToCome = "votes are for what is to come",
    /// A stranger gets no vote.
    VotesAreForSentinelsOfTheGroup = "votes are for sentinels of the group",
    /// Whoever sees a minority only may be asked by one who takes that for a majority.
    VotesAreOfThoseWhoSeeAMajority = "votes are of those who see a majority",
    /// A vote that cannot be written cannot be kept.
    NoVoteWhileTheDiskFails = "no vote while the disk fails",
    /// A leader must be able to keep its vote and write its configuration.
    NobodyStandsWhoCannotWrite = "nobody stands who cannot write",
    /// A vote for that id elects both.
    NobodyStandsWhoseIdAnotherHas = "nobody stands whose id another has",
    /// The others know the newer one, and count both.
    AnIdThatIsGivenUpStaysSo = "an id that is given up stays so",
    /// Whoever has no memory may have voted in a former life.
    NewcomersListenFirst = "newcomers listen first",
    /// Whoever has no memory may have voted in every epoch of which it hears.
    NewcomersVoteInLaterEpochs = "newcomers vote in later epochs",
    /// Nobody acts on it any more, and others may need it.
    AVoteForOneselfIsFreeOnceThatIsGivenUp = "a vote for oneself is free once that is given up",
    /// Those who voted for it vote for others from then on.
    WhatIsGivenUpIsNotActedOn = "what is given up is not acted on",
    /// Else they are bound for as long as a vote binds, and the next candidate lacks theirs.
    WhoeverGivesUpFreesItsVoters = "whoever gives up frees its voters",
    /// Candidates that do not compete do not split the votes.
    SentinelsOfSmallerRankStandFirst = "sentinels of smaller rank stand first",
    /// Candidates that wait for a random time do not split the votes for ever.
    APauseAfterAFailoverThatWasGivenUp = "a pause after a failover that was given up",
    /// An election has its cause: a quorum that sees the master down, or an order.
    AQuorumBeforeAnElection = "a quorum before an election",
    /// Opinions of long ago do not count.
    AQuorumOfFreshOpinionsBeforeAnElection = "a quorum of fresh opinions before an election",
    /// What was said of another master, or before it was one, does not count.
    OpinionsAreOfThePresentMaster = "opinions are of the present master",
    /// Nobody promotes without the votes of a majority, and of the quorum.
    AMajorityBeforePromotion = "a majority before promotion",
    /// Two leaders would make two masters.
    OneLeaderPerEpoch = "one leader per epoch",
    /// A leader does not promote where another leads already in a later epoch.
    LeadersActOneAfterTheOther = "leaders act one after the other",
    /// A failover makes a newer configuration, or ends.
    ANewerConfigurationEndsOlderFailovers = "a newer configuration ends older failovers",
    /// Later there may be another leader.
    APromotionComesWhileTheVotesBind = "a promotion comes while the votes bind",
    /// Later there may be another leader.
    APromotionCountsWhileTheVotesBind = "a promotion counts while the votes bind",
    /// Only what a node says after the order shows that it obeyed.
    APromotionIsSeenBeforeItIsTold = "a promotion is seen before it is told",
    /// Another replica may be better.
    APromotionWithoutEffectIsGivenUp = "a promotion without effect is given up",
    /// A failover that neither succeeds nor ends blocks the next one.
    AFailoverComesToAnEnd = "a failover comes to an end",
    /// Where the master is back, nobody is to replace it.
    AnElectionEndsWithItsCause = "an election ends with its cause",
    /// While nothing fails, nothing is failed over.
    NoFailoverWithoutCause = "no failover without cause",
    /// Whoever stood still knows nothing of what has happened.
    NothingIsDecidedRightAfterAStall = "nothing is decided right after a stall",
    /// Whoever stood still did not see who was silent.
    TimeNotWatchedCountsAgainstNobody = "time not watched counts against nobody",
    /// A configuration has a leader, who was elected for it.
    ConfigurationsAreElected = "configurations are elected",
    /// The newer configuration wins, everywhere and for ever.
    ConfigEpochsNeverGoBack = "config epochs never go back",
    /// The newer epoch wins, everywhere and for ever.
    EpochsNeverGoBack = "epochs never go back",
    /// An absurd epoch that is believed ends all later elections.
    EpochsStayCredible = "epochs stay credible",
    /// Else sentinels disagree for ever.
    OneMasterPerConfigEpoch = "one master per config epoch",
    /// What is announced as master is a node of the group.
    MastersAreNodesOfTheirGroup = "masters are nodes of their group",
    /// Only nodes of the group are promoted.
    PromotesAKnownNode = "promotes a known node",
    /// Nothing is said of a group that an operator has removed.
    WhatIsRemovedStaysSo = "what is removed stays so",
    /// A replica that is announced as promoted is a master.
    WhatIsAnnouncedIsTrue = "what is announced is true",
    /// What an operator has set is what he is shown.
    WhatIsSetIsShown = "what is set is shown",
    /// An operator's word.
    Priority0IsNeverPromoted = "priority 0 is never promoted",
    /// Somebody else's data would be wiped.
    HandsOffTheNodesOfOtherGroups = "hands off the nodes of other groups",
    /// Whoever shows an older configuration is not left with it.
    WhoeverLagsIsToldAtOnce = "whoever lags is told at once",
    /// The best replica is known only once all have said how far they are.
    AllAreAskedBeforeOneIsPromoted = "all are asked before one is promoted",
    /// Else nobody knows what it is.
    WhoIsPromotedAnswers = "who is promoted answers",
    /// It may be something else by now.
    WhoIsPromotedHasSaidLatelyWhatItIs = "who is promoted has said lately what it is",
    /// A master of its own has other data.
    WhoIsPromotedWasAReplica = "who is promoted was a replica",
    /// A name that means two nodes may mean the wrong one.
    WhoIsPromotedIsOneNode = "who is promoted is one node",
    /// What was confirmed since would be lost.
    OldDataAreNotPromoted = "old data are not promoted",
    /// The group's own data may still be somewhere.
    OthersDataAreNotPromoted = "others' data are not promoted",
    /// All would copy it.
    EmptinessIsNotPromoted = "emptiness is not promoted",
    /// An earlier leader promoted it, and writes go there.
    WhoWasPromotedAlreadyComesFirst = "who was promoted already comes first",
    /// What was written since its link broke would be lost with it.
    WhoFellBehindComesLast = "who fell behind comes last",
    /// A planned failover loses no confirmed write, or it is said that it may.
    WhatIsHandedOverIsWhole = "what is handed over is whole",
    /// Priority, then offset, then run id.
    TheBestReplicaIsPromoted = "the best replica is promoted",
    /// A refusal where somebody can be promoted is an outage.
    WhoeverCanBePromotedIsFound = "whoever can be promoted is found",
    /// Whoever follows something else may lose its data.
    NodesAreSentToAMaster = "nodes are sent to a master",
    /// Another configuration may be on its way.
    NewsHaveTimeToCome = "news have time to come",
    /// What only a minority knows may be old.
    AMajorityKnowsOfNoNews = "a majority knows of no news",
    /// Replicas that copy serve nobody.
    ParallelSyncsIsRespected = "parallel-syncs is respected",
    /// Whoever answers lives.
    OnlySilenceIsDown = "only silence is down",
    /// A wrong password is no death.
    WhoRefusesUsLives = "who refuses us lives",
    /// A healthy master would be failed over.
    AMasterIsDownForAReason = "a master is down for a reason",
    /// A failover begins with that.
    SilenceIsNoticedInTime = "silence is noticed in time",
    /// Whoever set `refused-after` wants to wait no longer.
    RefusalsAreNoticedInTime = "refusals are noticed in time",
    /// Where one master after the other goes down, a failover mends nothing.
    WhoFlapsRests = "who flaps rests",
    /// The outage lasts until somebody does.
    WhoeverCanBeElectedStandsInTime = "whoever can be elected stands in time",
    /// Two masters take writes until one is put right.
    NodesArePutRightInTime = "nodes are put right in time",
    /// An OK is kept.
    AFailoverThatIsOrderedIsTried = "a failover that is ordered is tried",
    /// That is what all this is for.
    ClientsAreToldTheMaster = "clients are told the master",
    /// That is what all this is for.
    ClientsFindTheMaster = "clients find the master",
    /// Without any fault nothing is lost.
    ConfirmedWritesStay = "confirmed writes stay",
    /// Questions and answers without end help nobody.
    NoCircles = "no circles",
    /// Once all is mended there is one master, all follow it, and all agree.
    AllIsWellAgain = "all is well again",
    /// What changes to and fro is not well.
    AllStaysWell = "all stays well",
    /// Whoever refuses too much is safe, and of no use.
    DeadMastersAreReplaced = "dead masters are replaced",
}

/// A rule that is broken, and how.
pub(super) type Broken = (Rule, String);

impl Rule {
    /// The rule of this name.
    pub fn named(name: &str) -> Option<Rule> {
        Rule::ALL.iter().copied().find(|rule| rule.name() == name)
    }
}
