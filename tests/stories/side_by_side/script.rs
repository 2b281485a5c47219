//! What the side-by-side story says to both sentinels, and where they differ by design.

/// What is asked of both, in this order, on one connection to each. Words are parted by blanks;
/// `''` is an empty word. `$MASTER`, `$REPLICA` and `$OWN` are the ports of the master, of a
/// replica and of the sentinel itself. Behind `=` stands a field of the master's entry or of INFO.
pub(super) const SCRIPT: &str = "
    PING
    ping hi
    PING ''
    PING a b
    ECHO hi
    GET a
    get
    SELECT 0
    CONFIG GET port
    MULTI
    TIME
    MONITOR
    DEBUG SLEEP 0
    SPUBLISH a b
    EVAL return 0
    sentinel|masters

    SENTINEL
    SENTINEL NO-SUCH
    sentinel Foo bar
    SENTINEL MASTERS
    SENTINEL MASTERS x
    SENTINEL MASTER mymaster
    sentinel master MYMASTER
    SENTINEL MASTER nobody
    SENTINEL MASTER
    SENTINEL MASTER mymaster x
    SENTINEL REPLICAS mymaster
    SENTINEL REPLICAS nobody
    SENTINEL REPLICAS
    SENTINEL SLAVES mymaster
    SENTINEL SLAVES nobody
    SENTINEL SLAVES
    SENTINEL SENTINELS mymaster
    SENTINEL SENTINELS nobody
    SENTINEL SENTINELS
    SENTINEL GET-MASTER-ADDR-BY-NAME mymaster
    sentinel get-master-addr-by-name mymaster
    SENTINEL GET-MASTER-ADDR-BY-NAME nobody
    SENTINEL GET-MASTER-ADDR-BY-NAME
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $MASTER 0 *
    SENTINEL is-master-down-by-addr 127.0.0.1 $MASTER 99 *
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $REPLICA 0 *
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 x 0 *
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $MASTER x *
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $MASTER 0
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $MASTER -1 *
    SENTINEL MYID
    SENTINEL MYID x
    SENTINEL CKQUORUM mymaster
    SENTINEL CKQUORUM nobody
    SENTINEL CKQUORUM
    SENTINEL FAILOVER nobody
    SENTINEL FAILOVER
    SENTINEL FAILOVER mymaster x
    SENTINEL FAILOVER nobody COORDINATED
    SENTINEL RESET nobody*
    SENTINEL RESET
    SENTINEL FLUSHCONFIG
    SENTINEL FLUSHCONFIG x
    SENTINEL PENDING-SCRIPTS
    SENTINEL PENDING-SCRIPTS x
    SENTINEL INFO-CACHE mymaster
    SENTINEL INFO-CACHE nobody
    SENTINEL INFO-CACHE
    SENTINEL SIMULATE-FAILURE help
    SENTINEL SIMULATE-FAILURE
    SENTINEL SIMULATE-FAILURE crash-after-election CRASH-AFTER-PROMOTION
    INFO sentinel
    SENTINEL SIMULATE-FAILURE crash-after-election foo
    = sentinel_simulate_failure_flags
    SENTINEL SIMULATE-FAILURE foo
    INFO sentinel
    SENTINEL HELP x
    SENTINEL EVENTS COUNT 1

    SENTINEL PRIMARIES x
    SENTINEL PRIMARY nobody
    SENTINEL GET-PRIMARY-ADDR-BY-NAME nobody
    SENTINEL IS-PRIMARY-DOWN-BY-ADDR 127.0.0.1 $MASTER 0 *

    SENTINEL SET mymaster quorum
    SENTINEL SET nobody quorum 1
    SENTINEL SET mymaster quorum 0
    SENTINEL SET mymaster QUORUM x
    SENTINEL SET mymaster quorum 01
    SENTINEL SET mymaster quorum +1
    SENTINEL SET mymaster quorum 1a
    SENTINEL SET mymaster parallel-syncs 01
    SENTINEL SET mymaster down-after-milliseconds 5s
    SENTINEL SET mymaster down-after-milliseconds +5000
    SENTINEL SET mymaster master-reboot-down-after-period 00
    SENTINEL SET mymaster quorum 3
    SENTINEL MASTER mymaster
    SENTINEL SET mymaster quorum 2 parallel-syncs 2
    SENTINEL MASTER mymaster
    SENTINEL SET mymaster parallel-syncs 1
    SENTINEL SET mymaster parallel-syncs 0
    SENTINEL SET mymaster down-after-milliseconds -1
    SENTINEL SET mymaster down-after-milliseconds 4000
    SENTINEL REPLICAS mymaster
    SENTINEL SENTINELS mymaster
    SENTINEL SET mymaster down-after-milliseconds 5000
    SENTINEL SET mymaster failover-timeout none
    SENTINEL SET mymaster failover-timeout 7000
    SENTINEL SET mymaster failover-timeout 6000
    SENTINEL SET mymaster master-reboot-down-after-period -1
    SENTINEL SET mymaster master-reboot-down-after-period 0
    SENTINEL SET mymaster primary-reboot-down-after-period 0
    SENTINEL SET mymaster no-such 1
    SENTINEL SET mymaster no-such 1 quorum 2
    SENTINEL SET mymaster quorum 2 no-such
    SENTINEL SET mymaster notification-script /bin/true
    SENTINEL SET mymaster client-reconfig-script ''
    SENTINEL SET mymaster rename-command a
    SENTINEL SET mymaster rename-command '' b
    SENTINEL SET mymaster quorum 3 no-such 1
    = quorum
    SENTINEL SET mymaster quorum 2

    SENTINEL CONFIG
    SENTINEL CONFIG GET
    SENTINEL CONFIG PUT a b
    SENTINEL CONFIG GET announce-ip
    SENTINEL CONFIG GET ANNOUNCE-*
    SENTINEL CONFIG GET *hostnames
    SENTINEL CONFIG GET sentinel-*
    SENTINEL CONFIG GET nothing
    SENTINEL CONFIG GET loglevel
    SENTINEL CONFIG GET announce-ip announce-port
    SENTINEL CONFIG SET announce-port 65536
    SENTINEL CONFIG SET announce-port x
    SENTINEL CONFIG SET announce-port $OWN
    SENTINEL CONFIG GET announce-port
    SENTINEL CONFIG SET announce-port 0
    SENTINEL CONFIG SET resolve-hostnames maybe
    SENTINEL CONFIG SET resolve-hostnames YES
    SENTINEL CONFIG SET announce-hostnames no
    SENTINEL CONFIG SET nothing 1
    SENTINEL CONFIG SET loglevel notice
    SENTINEL CONFIG SET resolve-hostnames no

    SENTINEL MONITOR
    SENTINEL MONITOR other 127.0.0.1 1 x
    SENTINEL MONITOR other 127.0.0.1 x 1
    SENTINEL MONITOR other 127.0.0.1 1 01
    SENTINEL MONITOR other 127.0.0.1 +1 1
    SENTINEL MONITOR other 127.0.0.1 00 1
    SENTINEL MONITOR other 127.0.0.1 1 0
    SENTINEL MONITOR other 127.0.0.1 1 -1
    SENTINEL MONITOR other localhost 1 1
    SENTINEL MONITOR other 127.0.0.1 70000 1
    SENTINEL MONITOR other 127.0.0.1 -1 1
    SENTINEL MONITOR mymaster 127.0.0.1 1 1
    SENTINEL MONITOR other 127.0.0.1 1 2
    SENTINEL MONITOR other 127.0.0.1 1 2
    SENTINEL GET-MASTER-ADDR-BY-NAME other
    SENTINEL REPLICAS other
    SENTINEL SENTINELS other
    SENTINEL CKQUORUM other
    SENTINEL FAILOVER other
    SENTINEL INFO-CACHE other
    SENTINEL RESET o?her
    SENTINEL REMOVE other
    SENTINEL REMOVE other
    SENTINEL REMOVE
    SENTINEL MONITOR a,b 127.0.0.1 1 2
    SENTINEL REMOVE a,b
    SENTINEL MONITOR zero 127.0.0.1 0 2
    SENTINEL REMOVE zero

    SENTINEL DEBUG
    SENTINEL DEBUG no-such
    SENTINEL DEBUG no-such 1
    SENTINEL DEBUG ping-period
    SENTINEL DEBUG Ping-Period 0
    SENTINEL DEBUG ask-period x
    SENTINEL DEBUG PING-PERIOD 1000 info-period 10000

    ROLE
    ROLE x
    INFO
    INFO server
    INFO clients
    INFO stats
    INFO CPU
    INFO sentinel
    INFO sentinel SERVER
    INFO replication
    INFO no-such
    INFO everything
    INFO default
    INFO all

    HELLO
    HELLO 4
    HELLO x
    HELLO 3 foo
    HELLO 2 AUTH default
    HELLO 2 SETNAME
    HELLO x AUTH nobody x
    HELLO 3 AUTH nobody x SETNAME a\tb
    HELLO 3 SETNAME a\tb AUTH nobody x
    HELLO 3 SETNAME good AUTH nobody x
    CLIENT GETNAME
    HELLO 3 SETNAME better SETNAME a\tb
    CLIENT GETNAME
    HELLO 3 SETNAME best foo
    CLIENT GETNAME
    HELLO 3 AUTH nobody x AUTH default y
    CLIENT SETNAME ''
    AUTH
    AUTH x
    AUTH a b
    AUTH default ''
    AUTH a b c
    ACL
    ACL NO-SUCH
    ACL WHOAMI
    ACL WHOAMI x
    ACL USERS
    ACL CAT nothing
    ACL GETUSER nobody
    ACL GENPASS x
    ACL DELUSER default
    ACL DRYRUN nobody PING
    ACL DRYRUN default NO-SUCH
    ACL DRYRUN default PING
    ACL LOAD
    ACL SAVE
    ACL SETUSER bob +no-such
    ACL LOG x
    ACL LOG RESET
    ACL LOG

    CLIENT
    CLIENT NO-SUCH
    CLIENT ID
    CLIENT GETNAME
    CLIENT SETNAME me
    CLIENT GETNAME
    CLIENT SETNAME a\tb
    CLIENT INFO
    CLIENT SETNAME ''
    CLIENT SETINFO LIB-NAME redis-py
    CLIENT SETINFO LIB-VER 8.1.0
    CLIENT SETINFO colour red
    CLIENT MAINT_NOTIFICATIONS ON
    CLIENT NO-TOUCH on
    CLIENT NO-TOUCH off
    CLIENT NO-EVICT on
    CLIENT NO-EVICT x
    CLIENT LIST TYPE foo
    CLIENT LIST TYPE replica
    CLIENT LIST ID x
    CLIENT LIST ID 999999
    CLIENT KILL
    CLIENT KILL 1.2.3.4:5
    CLIENT KILL ID 999999
    CLIENT KILL ID x
    CLIENT KILL TYPE foo
    CLIENT KILL USER nobody
    CLIENT KILL NO-SUCH x
    CLIENT CACHING yes
    CLIENT GETREDIR
    CLIENT TRACKINGINFO
    CLIENT TRACKING on
    CLIENT TRACKINGINFO
    CLIENT GETREDIR
    CLIENT TRACKING off
    CLIENT TRACKING x
    CLIENT TRACKING on BCAST
    CLIENT TRACKINGINFO
    CLIENT TRACKING on BCAST PREFIX a
    CLIENT TRACKING off
    CLIENT TRACKING on BCAST PREFIX zz PREFIX a PREFIX yy
    CLIENT TRACKINGINFO
    CLIENT TRACKING on BCAST PREFIX b
    CLIENT TRACKING on BCAST PREFIX yyy
    CLIENT TRACKING on
    CLIENT TRACKINGINFO
    CLIENT TRACKING off
    CLIENT REPLY x
    CLIENT PAUSE x
    CLIENT PAUSE 1 foo
    CLIENT PAUSE 0
    CLIENT UNPAUSE
    CLIENT UNBLOCK 999999
    CLIENT UNBLOCK x

    COMMAND COUNT
    COMMAND COUNT x
    COMMAND NO-SUCH
    COMMAND INFO ping
    COMMAND INFO publish nothing role
    COMMAND INFO sentinel|master sentinel|nothing
    COMMAND INFO sentinel|set sentinel|reset sentinel|help
    COMMAND DOCS nothing
    COMMAND GETKEYS ping x
    COMMAND GETKEYS ping
    COMMAND GETKEYS ping a b c
    COMMAND GETKEYS no-such x
    COMMAND GETKEYS sentinel master
    COMMAND GETKEYS sentinel no-such x
    COMMAND GETKEYS sentinel|master x
    COMMAND GETKEYS
    COMMAND GETKEYSANDFLAGS publish a b
    COMMAND GETKEYS get a
    COMMAND LIST FILTERBY PATTERN sentinel|m*
    COMMAND LIST FILTERBY ACLCAT pubsub
    COMMAND LIST FILTERBY MODULE x
    COMMAND LIST foo

    PUBLISH
    PUBLISH a
    PUBLISH news x
    PUBLISH __sentinel__:hello rubbish
    PUBLISH __sentinel__:hello a,b,c,d,e,f,g,h
    SUBSCRIBE
    PSUBSCRIBE
    UNSUBSCRIBE
    PUNSUBSCRIBE x
    SUBSCRIBE quiet
    SUBSCRIBE quiet
    PSUBSCRIBE quiet*
    PING
    PING hi
    SENTINEL MYID
    SENTINEL NO-SUCH
    GET a
    HELLO 2
    UNSUBSCRIBE quiet
    PUNSUBSCRIBE
    SHUTDOWN ABORT
    SHUTDOWN foo
    SHUTDOWN SAVE NOSAVE
    SHUTDOWN ABORT NOW
    RESET
    PING
";

/// Where the two differ by design: what is asked, how our reply begins, how that of redis-sentinel
/// 7.0 does, and why they are not the same.
pub(super) const MEANT: &[(&str, &str, &str, &str)] = &[
    (
        "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $MASTER -1 *",
        "-ERR value is not an integer or out of range",
        "[Integer(0), Bulk(\"*\"), Integer(0)]",
        "an epoch of -1 ends the elections of Redis for ever if a vote is asked for",
    ),
    (
        "SENTINEL FAILOVER nobody COORDINATED",
        "-ERR No such master with that name",
        "-ERR wrong number of arguments for 'sentinel|failover' command",
        "Valkey 9",
    ),
    (
        "SENTINEL EVENTS COUNT 1",
        "[",
        "-ERR unknown subcommand 'EVENTS'",
        "our own: what a late subscriber missed",
    ),
    (
        "SENTINEL PRIMARIES x",
        "-ERR wrong number of arguments for 'sentinel|primaries' command",
        "-ERR unknown subcommand 'PRIMARIES'",
        "Valkey 8",
    ),
    (
        "SENTINEL PRIMARY nobody",
        "-ERR No such master with that name",
        "-ERR unknown subcommand 'PRIMARY'",
        "Valkey 8",
    ),
    (
        "SENTINEL GET-PRIMARY-ADDR-BY-NAME nobody",
        "null",
        "-ERR unknown subcommand 'GET-PRIMARY-ADDR-BY-NAME'",
        "Valkey 8",
    ),
    (
        "SENTINEL IS-PRIMARY-DOWN-BY-ADDR 127.0.0.1 $MASTER 0 *",
        "[Integer(0), Bulk(\"*\"), Integer(0)]",
        "-ERR unknown subcommand 'IS-PRIMARY-DOWN-BY-ADDR'",
        "Valkey 8",
    ),
    (
        "SENTINEL SET mymaster primary-reboot-down-after-period 0",
        "+OK",
        "-ERR Unknown option or number of arguments for SENTINEL SET",
        "Valkey 8",
    ),
    (
        "SENTINEL CONFIG GET",
        "-ERR wrong number of arguments for 'sentinel|config' command",
        "-ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.",
        "Redis 7.2",
    ),
    (
        "SENTINEL CONFIG PUT a b",
        "-ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET",
        "-ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.",
        "Redis 7.2",
    ),
    ("SENTINEL CONFIG GET loglevel", "<pairs> loglevel", "<pairs>", "Redis 7.2"),
    (
        "SENTINEL CONFIG GET announce-ip announce-port",
        "<pairs> announce-ip \"\", announce-port \"0\"",
        "-ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.",
        "Redis 7.2",
    ),
    (
        "SENTINEL CONFIG SET loglevel notice",
        "+OK",
        "-ERR Invalid argument 'loglevel' to SENTINEL CONFIG SET",
        "Redis 7.2",
    ),
    (
        "= sentinel_simulate_failure_flags",
        "0",
        "1",
        "all words are read before one counts: what stands before a bad one is not kept",
    ),
    ("= quorum", "2", "3", "SET is atomic: the quorum before a bad option is not kept"),
    (
        "SENTINEL CKQUORUM other",
        "-NOQUORUM 1 usable Sentinels. This Sentinel takes no part in elections yet",
        "-NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach",
        "a newcomer listens first, and says so",
    ),
    (
        "SENTINEL MONITOR a,b 127.0.0.1 1 2",
        "-ERR Invalid master name: ",
        "+OK",
        "a name with a comma, blank or line end breaks hellos or the file",
    ),
    ("SENTINEL REMOVE a,b", "-ERR No such master with that name", "+OK", "the same"),
    (
        "SENTINEL MONITOR zero 127.0.0.1 0 2",
        "-ERR Invalid port number.",
        "+OK",
        "nobody can be reached at port 0",
    ),
    ("SENTINEL REMOVE zero", "-ERR No such master with that name", "+OK", "the same"),
    (
        "CLIENT SETINFO LIB-NAME redis-py",
        "+OK",
        "-ERR unknown subcommand 'SETINFO'",
        "Redis 7.2; clients send it when they connect",
    ),
    (
        "CLIENT SETINFO LIB-VER 8.1.0",
        "+OK",
        "-ERR unknown subcommand 'SETINFO'",
        "Redis 7.2; clients send it when they connect",
    ),
    (
        "CLIENT SETINFO colour red",
        "-ERR Unrecognized option 'colour'",
        "-ERR unknown subcommand 'SETINFO'",
        "Redis 7.2",
    ),
    (
        "CLIENT NO-TOUCH on",
        "+OK",
        "-ERR unknown subcommand 'NO-TOUCH'",
        "data nodes since 7.2 know it, and clients may send it",
    ),
    (
        "CLIENT NO-TOUCH off",
        "+OK",
        "-ERR unknown subcommand 'NO-TOUCH'",
        "data nodes since 7.2 know it, and clients may send it",
    ),
    (
        "COMMAND GETKEYS ping",
        "-ERR The command has no key arguments",
        "-ERR wrong number of arguments for 'command|getkeys' command",
        "Redis 7.2",
    ),
    ("COMMAND COUNT", ":17", ":15", "QUIT and RESET are commands here"),
    ("RESET", "+RESET", "-ERR unknown command 'RESET'", "answered, as data nodes do"),
];

/// What is typed, or is no RESP at all: each on a connection of its own, which is then at its end
/// for writing; all that comes back is compared byte by byte.
pub(super) const TYPED: &[&str] = &[
    "PING\r\n",
    "ping\n",
    "PING 'a b'\r\n",
    "PING \"a\\x41\\n\"\r\n",
    "sentinel get-master-addr-by-name mymaster\r\n",
    "SENTINEL CKQUORUM mymaster\r\nPING\r\n",
    "sentinel myid\r\n",
    "\r\n\r\nPING\r\n",
    "PING \"a\r\n",
    "PING\0\r\nPING\r\n",
    "PING\r\nPING a\0b\r\nPING\r\n",
    "\0\r\nPING\r\n",
    "PING \"a\\x00b\"\r\n",
    "PING\x0b\x0ca\r\n",
    "PING 'a'\x0b'b'\r\n",
    "\x0b\x0cPING\x0b \x0b\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "info replication\r\n",
    "*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nPING\r\n$1\r\nx\r\n",
    "*0\r\nPING\r\n",
    "*-1\r\nPING\r\n",
    "*x\r\n",
    "*1\r\n:5\r\n",
    "*1\r\n$x\r\n",
    "*1\r\n$-1\r\n",
    "*1\r\n$99999999999\r\n",
    "*9999999999\r\n",
    "*3\r\n$8\r\nSENTINEL\r\n$7\r\nMASTERS\r\n$1\r\nx\r\n",
];
