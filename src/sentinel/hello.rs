//! The hello line: how sentinels find each other and spread the newest configuration.

use super::types::{Address, Epoch, RunId};

/// The channel on which sentinels say hello.
pub const CHANNEL: &str = "__sentinel__:hello";

/// `ip,port,id,current-epoch,master-name,master-ip,master-port,config-epoch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Where the speaker listens.
    pub sender: Address,
    /// The speaker's id.
    pub id: RunId,
    /// The speaker's current epoch.
    pub current_epoch: Epoch,
    /// The group it speaks of.
    pub group: String,
    /// Where the speaker believes the master to be.
    pub master: Address,
    /// The epoch of that belief.
    pub config_epoch: Epoch,
}

impl Hello {
    /// Reads a payload; the error says which field is wrong and why.
    pub fn parse(payload: &str) -> Result<Hello, String> {
        let mut fields = payload.split(',');
        let eight: [_; 8] = std::array::from_fn(|_| fields.next());
        let (
            [
                Some(ip),
                Some(port),
                Some(id),
                Some(current_epoch),
                Some(group),
                Some(master_ip),
                Some(master_port),
                Some(config_epoch),
            ],
            None,
        ) = (eight, fields.next())
        else {
            let count = payload.split(',').count();
            return Err(format!("it has {count} fields where 8 are due"));
        };
        let id = RunId::parse(id).ok_or("its third field is no id of 40 hexadecimal digits")?;
        if group.is_empty() {
            return Err("its group name is empty".into());
        }
        Ok(Hello {
            sender: address(ip, port).ok_or("its sender's address is not usable")?,
            id,
            current_epoch: epoch(current_epoch).ok_or("its current epoch is out of range")?,
            group: group.to_owned(),
            master: address(master_ip, master_port).ok_or("its master's address is not usable")?,
            config_epoch: epoch(config_epoch).ok_or("its configuration epoch is out of range")?,
        })
    }

    /// The payload that says this.
    pub fn payload(&self) -> String {
        format!(
            "{},{},{},{},{},{},{},{}",
            self.sender.host,
            self.sender.port,
            self.id,
            self.current_epoch,
            self.group,
            self.master.host,
            self.master.port,
            self.config_epoch
        )
    }
}

/// Said to the other sentinels by one that takes no part any more in an election in which it stood:
/// whoever gave it a vote there is free to vote for others. It goes the way of hellos, to those
/// only that we know; a stock sentinel takes no notice of what has not eight fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveUp {
    /// Who stood.
    pub id: RunId,
    /// The epoch of the election.
    pub epoch: Epoch,
    /// The group whose leader was to be elected.
    pub group: String,
}

impl GiveUp {
    /// The first field of the payload.
    const WORD: &str = "gives-up";

    /// Reads a payload; `None` if it is something else, a hello most likely.
    pub fn parse(payload: &str) -> Option<GiveUp> {
        let mut fields = payload.split(',');
        let (Some(Self::WORD), Some(id), Some(number), Some(group), None) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return None;
        };
        Some(GiveUp { id: RunId::parse(id)?, epoch: epoch(number)?, group: group.to_owned() })
    }

    /// `gives-up,id,epoch,master-name`.
    pub fn payload(&self) -> String {
        format!("{},{},{},{}", Self::WORD, self.id, self.epoch, self.group)
    }
}

fn address(host: &str, port: &str) -> Option<Address> {
    let port: u16 = port.parse().ok().filter(|p| *p != 0)?;
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| Address::new(host, port))
}

/// Stock sentinels may have been made to believe any.
fn epoch(text: &str) -> Option<Epoch> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str =
        "127.0.0.1,7210,488808c8812a69fb3998688d9333ba3bc0d60334,1,mymaster,127.0.0.1,7203,1";

    #[test]
    fn a_line_of_redis_reads_and_writes_back() {
        let hello = Hello::parse(SEEN).expect("a hello");
        assert_eq!(hello.master, Address::new("127.0.0.1", 7203));
        assert_eq!(hello.payload(), SEEN);
        let bare_v6 = SEEN.replace("127.0.0.1,72", "fe80::1,72");
        assert_eq!(Hello::parse(&bare_v6).map(|h| h.payload()), Ok(bare_v6));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let seven = SEEN.rsplit_once(',').expect("commas").0.to_owned();
        for (line, expected) in [
            (seven, "7 fields"),
            (format!("{SEEN},9"), "9 fields"),
            (SEEN.replace("7210", "0"), "sender's address"),
            (SEEN.replace("7203", "72030"), "master's address"),
            (SEEN.replace("488808", "zzzzzz"), "no id"),
            (SEEN.replace(",1,my", ",18446744073709551616,my"), "current epoch"),
            (SEEN.replace(",1,my", ",-1,my"), "current epoch"),
            (SEEN.replace("mymaster", ""), "group name"),
            (String::new(), "1 fields"),
        ] {
            let error = Hello::parse(&line).expect_err(&line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn that_a_candidate_gives_up_is_read_and_is_no_hello() {
        let given_up = GiveUp { id: RunId::from_bytes([7; 20]), epoch: 12, group: "g".into() };
        let payload = given_up.payload();
        assert_eq!(payload, format!("gives-up,{},12,g", given_up.id));
        assert_eq!(GiveUp::parse(&payload), Some(given_up));
        assert!(Hello::parse(&payload).is_err());
        for wrong in [SEEN, "gives-up", "gives-up,x,12,g", &format!("{payload},1")] {
            assert_eq!(GiveUp::parse(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(
            line in "\\PC{0,200}|([0-9a-f.:,-]{0,60},){7}\\PC{0,9}"
        ) {
            if let Ok(hello) = Hello::parse(&line) {
                proptest::prop_assert_eq!(Hello::parse(&hello.payload()), Ok(hello));
            }
        }
    }
}
