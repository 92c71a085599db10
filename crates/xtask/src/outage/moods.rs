//! Errors of stores that answer: how an administrator makes each, and takes it back, while likes go on.

use crate::command::output;
use crate::installation::Installation;
use anyhow::Result;

/// One error, on for the length of a load.
pub(super) struct Mood {
    pub(super) name: &'static str,
    spoil: Does,
    mend: Does,
}

enum Does {
    /// Arguments of `redis-cli`.
    Redis(&'static [&'static str]),
    /// Statements.
    Sql(&'static str),
    /// Code, state and text that every write fails with, as a server in that state says it. The same code without a
    /// trigger needs another server than this one, or a user with fewer rights.
    Refuse(u16, &'static str, &'static str),
    TakeAgain,
    /// Arguments of `rabbitmqctl`, call by call.
    Rabbit(&'static [&'static [&'static str]]),
    Nothing,
}

/// Tables that likes and probes write first.
const TABLES: [&str; 2] = ["sync_events", "sync_meta"];

const CLOSE_ALL: &[&str] = &["close_all_connections", "--global", "the mood"];

pub(super) const MOODS: &[Mood] = &[
    Mood {
        name: "redis NOPERM",
        spoil: Does::Redis(&["ACL", "SETUSER", "default", "-xadd"]),
        mend: Does::Redis(&["ACL", "SETUSER", "default", "+xadd"]),
    },
    Mood {
        name: "redis OOM",
        spoil: Does::Redis(&["CONFIG", "SET", "maxmemory", "1"]),
        mend: Does::Redis(&["CONFIG", "SET", "maxmemory", "0"]),
    },
    Mood {
        name: "redis READONLY",
        spoil: Does::Redis(&["REPLICAOF", "127.0.0.1", "1"]),
        mend: Does::Redis(&["REPLICAOF", "NO", "ONE"]),
    },
    Mood {
        name: "mysql 1290",
        spoil: Does::Refuse(1290, "HY000", "The server is running with the --read-only option"),
        mend: Does::TakeAgain,
    },
    Mood {
        name: "mysql 1665",
        spoil: Does::Refuse(1665, "HY000", "Cannot execute statement: impossible to write to binary log"),
        mend: Does::TakeAgain,
    },
    Mood {
        name: "mysql 1142",
        spoil: Does::Refuse(1142, "42000", "INSERT command denied to user ''likes''@''%'' for table ''sync_events''"),
        mend: Does::TakeAgain,
    },
    Mood {
        name: "mysql 1180",
        spoil: Does::Refuse(1180, "HY000", "Got error 28 during COMMIT"),
        mend: Does::TakeAgain,
    },
    Mood {
        name: "mysql 1153",
        spoil: Does::Sql("SET GLOBAL max_allowed_packet = 16384"),
        mend: Does::Sql("SET GLOBAL max_allowed_packet = 16777216"),
    },
    Mood {
        name: "rabbitmq memory alarm",
        spoil: Does::Rabbit(&[&["set_vm_memory_high_watermark", "absolute", "1MB"]]),
        mend: Does::Rabbit(&[&["set_vm_memory_high_watermark", "absolute", "1GB"]]),
    },
    Mood {
        name: "rabbitmq disk alarm",
        spoil: Does::Rabbit(&[&["set_disk_free_limit", "1000000GB"]]),
        mend: Does::Rabbit(&[&["set_disk_free_limit", "100MB"]]),
    },
    Mood {
        name: "rabbitmq 403",
        spoil: Does::Rabbit(&[&["set_permissions", "-p", "/", "guest", "^$", "^$", "^$"], CLOSE_ALL]),
        mend: Does::Rabbit(&[&["set_permissions", "-p", "/", "guest", ".*", ".*", ".*"]]),
    },
    // Everybody connects anew, and declares a queue that others declared otherwise (406): it is used as it is.
    Mood {
        name: "rabbitmq 406 and 320",
        spoil: Does::Rabbit(&[&["eval", OTHER_ARGUMENTS], CLOSE_ALL]),
        mend: Does::Nothing,
    },
];

/// Makes the likes queue another one: classic, without arguments, bound as ever.
const OTHER_ARGUMENTS: &str = r#"
    X = fun(Kind, Name) -> rabbit_misc:r(<<"/">>, Kind, Name) end,
    Queue = X(queue, <<"interaction.likes">>),
    {ok, Old} = rabbit_amqqueue:lookup(Queue),
    {ok, _} = rabbit_amqqueue:delete(Old, false, false, <<"mood">>),
    {new, _} = rabbit_amqqueue:declare(Queue, true, false, [], none, <<"mood">>),
    ok = rabbit_binding:add({binding, X(exchange, <<"interaction.events">>), <<"likes">>, Queue, []}, <<"mood">>).
"#;

impl Mood {
    /// What making it costs this machine, without the mood: `rabbitmqctl` starts a virtual machine for each call.
    pub(super) fn without(&self, installation: &Installation) -> Result<()> {
        let Does::Rabbit(calls) = self.spoil else { return Ok(()) };
        for _ in calls {
            output(&mut installation.environment.shell_function("rabbitmq_ctl", &["eval", "ok."]))?;
        }
        Ok(())
    }

    pub(super) fn begin(&self, installation: &Installation) -> Result<()> {
        self.spoil.on(installation)
    }

    pub(super) fn end(&self, installation: &Installation) -> Result<()> {
        self.mend.on(installation)
    }
}

impl Does {
    fn on(&self, installation: &Installation) -> Result<()> {
        match self {
            Self::Redis(arguments) => {
                let mut call = installation.environment.command("redis-cli");
                output(call.args(["-e", "-u", &installation.address("REDIS_URL")?]).args(*arguments))?;
            }
            Self::Sql(statements) => drop(installation.sql(statements)?),
            Self::Refuse(number, state, text) => {
                for table in TABLES {
                    installation.sql(&format!(
                        "CREATE TRIGGER mood_{table} BEFORE INSERT ON {table} FOR EACH ROW \
                         SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = '{text}'"
                    ))?;
                }
            }
            Self::TakeAgain => {
                for table in TABLES {
                    installation.sql(&format!("DROP TRIGGER mood_{table}"))?;
                }
            }
            Self::Rabbit(calls) => {
                for arguments in *calls {
                    output(&mut installation.environment.shell_function("rabbitmq_ctl", arguments))?;
                }
            }
            Self::Nothing => {}
        }
        // Connections of before were told the former settings.
        if matches!(self, Self::Sql(_)) {
            let others = "SELECT CONCAT('KILL ', id) FROM information_schema.processlist \
                          WHERE user = 'root' AND id <> CONNECTION_ID() AND db = 'likes'";
            for kill in installation.sql(others)?.lines() {
                // It may have ended by itself.
                let _ended = installation.sql(kill);
            }
        }
        Ok(())
    }
}
