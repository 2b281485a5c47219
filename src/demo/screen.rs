//! The presentation for terminals: the live topology, the timeline of the failover, the events, the
//! writes; and the keyboard.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Table};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::cluster::everybody;
use super::interactive::Command;
use super::model::{BUCKET_MS, Model, Node, Role, Run, Sentinel, Who};

/// How long a key is waited for before the picture is drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(60);

/// Whether there is a terminal to draw on and to take keys from.
pub(super) fn is_possible() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// Draws the board and passes keys on, until told to stop. Blocks; to be run on a thread of its
/// own.
///
/// # Errors
/// When the terminal goes away.
pub(super) fn show(
    board: watch::Receiver<Model>,
    stop: CancellationToken,
    keys: mpsc::Sender<Command>,
    interactive: bool,
) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let mut selected = 0;
    let mut run = || -> io::Result<()> {
        while !stop.is_cancelled() {
            // A copy: a slow terminal must not keep the others from the board.
            let model = board.borrow().clone();
            let marked = interactive.then_some(selected);
            terminal.draw(|frame| draw(frame, &model, marked, Instant::now()))?;
            if event::poll(DRAW_EVERY)?
                && let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
                && let Some(command) = command(key.code, key.modifiers, interactive, &mut selected)
            {
                // A full queue means that the keys come faster than they can be obeyed.
                let _ = keys.try_send(command);
            }
        }
        Ok(())
    };
    let outcome = run();
    ratatui::restore();
    outcome
}

/// What a key means; moves the selection.
fn command(
    code: KeyCode,
    modifiers: KeyModifiers,
    interactive: bool,
    selected: &mut usize,
) -> Option<Command> {
    if code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL) {
        return Some(Command::Interrupt);
    }
    if code == KeyCode::Char('q') {
        return Some(Command::Quit);
    }
    if !interactive {
        return None;
    }
    let count = everybody().count();
    let who = everybody().nth(*selected)?;
    match code {
        KeyCode::Up | KeyCode::BackTab => *selected = (*selected + count - 1) % count,
        KeyCode::Down | KeyCode::Tab => *selected = (*selected + 1) % count,
        KeyCode::Char(digit @ '1'..='9') => {
            let at = digit as usize - '1' as usize;
            *selected = if at < count { at } else { *selected };
        }
        KeyCode::Char('k') => return Some(Command::Kill(who)),
        KeyCode::Char('f') => return Some(Command::Freeze(who)),
        KeyCode::Char('p') => return Some(Command::Cut(who)),
        KeyCode::Char('r') => return Some(Command::Restart(who)),
        _ => {}
    }
    None
}

/// Draws everything; `selected` marks one of [`everybody`] when keys can act on it.
fn draw(frame: &mut Frame, model: &Model, selected: Option<usize>, now: Instant) {
    let members = model.nodes.len().max(model.sentinels.len()) as u16;
    let stages = 2 + model.failover.as_ref().map_or(1, |failover| failover.rows().len() as u16 + 1);
    let [title, top, timeline, events, writes, status, help] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(members + 3),
        Constraint::Length(stages),
        Constraint::Min(3),
        Constraint::Length(4),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [nodes, sentinels] =
        Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(top);
    let elapsed = now.saturating_duration_since(model.started).as_secs_f64();
    let head = Line::from(vec![
        " Watchfire demo ".black().on_yellow().bold(),
        format!(" {elapsed:.1} s   {}", model.title).into(),
    ]);
    frame.render_widget(head, title);
    draw_nodes(frame, nodes, model, selected);
    draw_sentinels(frame, sentinels, model, selected.map(|at| at.wrapping_sub(model.nodes.len())));
    draw_timeline(frame, timeline, model);
    draw_events(frame, events, model);
    draw_writes(frame, writes, model, now);
    frame.render_widget(Line::from(format!(" {}", model.status)).bold(), status);
    let keys = match selected {
        Some(_) => " 1-6 ↑↓ select  k kill -9  f freeze/thaw  p partition/heal  r restart  q quit",
        None => " q or Ctrl-C: stop and clean up",
    };
    frame.render_widget(Line::from(keys).dim(), help);
}

fn draw_nodes(frame: &mut Frame, area: Rect, model: &Model, selected: Option<usize>) {
    let rows = model.nodes.iter().enumerate().map(|(at, node)| {
        let (state, style) = node_state(node);
        let cells = node_cells(model, node);
        let [role, offset, lag, follows] = cells;
        let name = format!("{}{}", marker(selected == Some(at)), Who::Node(at));
        Row::new([name, state.into(), role, offset, lag, follows]).style(style)
    });
    let widths = [7, 7, 7, 8, 5, 6].map(Constraint::Length);
    let header = Row::new([" node", "state", "role", "offset", "lag", "of"]).dim();
    let table = Table::new(rows, widths).header(header).column_spacing(1);
    frame.render_widget(table.block(Block::bordered().title(" data nodes ")), area);
}

fn marker(marked: bool) -> &'static str {
    if marked { "▶" } else { " " }
}

fn node_state(node: &Node) -> (&'static str, Style) {
    match node.run {
        Run::Dead => ("dead", Style::new().fg(Color::Red)),
        Run::Frozen => ("frozen", Style::new().fg(Color::Cyan)),
        Run::Running if node.cut => ("cut off", Style::new().fg(Color::Yellow)),
        Run::Running => match node.role() {
            None => ("silent", Style::new().dim()),
            Some(Role::Master) => ("up", Style::new().fg(Color::Green).bold()),
            Some(Role::Replica) => ("up", Style::new()),
        },
    }
}

/// Role, offset, lag behind the master it follows, and that master.
fn node_cells(model: &Model, node: &Node) -> [String; 4] {
    let Some(info) = node.info.as_ref().filter(|_| node.run == Run::Running) else {
        return Default::default();
    };
    let offset = info.offset.to_string();
    if info.role == Role::Master {
        return ["master".into(), offset, String::new(), String::new()];
    }
    let master = model.nodes.iter().find(|master| Some(master.port) == info.master_port);
    let lag = match master.and_then(|master| master.info.as_ref()) {
        _ if !info.link_up => "down".into(),
        Some(master) => master.offset.saturating_sub(info.offset).to_string(),
        None => String::new(),
    };
    let follows = info.master_port.map_or(String::new(), |port| model.name_or_port(port));
    ["replica".into(), offset, lag, follows]
}

fn draw_sentinels(frame: &mut Frame, area: Rect, model: &Model, selected: Option<usize>) {
    let rows = model.sentinels.iter().enumerate().map(|(at, sentinel)| {
        let (state, style) = sentinel_state(sentinel);
        let name = format!("{}{}", marker(selected == Some(at)), Who::Sentinel(at));
        let (master, sees) = match &sentinel.info {
            Some(info) => (
                info.master.map_or("?".into(), |port| model.name_or_port(port)),
                format!("{}+{}", info.replicas_well, info.peers_well),
            ),
            None => Default::default(),
        };
        Row::new([name, state.into(), master, sees]).style(style)
    });
    let widths = [11, 6, 6, 4].map(Constraint::Length);
    let header = Row::new([" sentinel", "state", "names", "sees"]).dim();
    let table = Table::new(rows, widths).header(header).column_spacing(1);
    frame.render_widget(table.block(Block::bordered().title(" sentinels ")), area);
}

fn sentinel_state(sentinel: &Sentinel) -> (&'static str, Style) {
    match sentinel.run {
        Run::Dead => ("dead", Style::new().fg(Color::Red)),
        Run::Frozen => ("frozen", Style::new().fg(Color::Cyan)),
        Run::Running if sentinel.info.is_none() => ("silent", Style::new().dim()),
        Run::Running => ("up", Style::new()),
    }
}

fn draw_timeline(frame: &mut Frame, area: Rect, model: &Model) {
    let mut lines = Vec::new();
    match &model.failover {
        None => lines.push(Line::from(" nothing has happened yet").dim()),
        Some(failover) => {
            lines.push(Line::from(format!(" since {}", failover.cause)).bold());
            for row in failover.rows() {
                let (mark, time) = match row.after {
                    Some(after) => ("●".green(), format!("{:>8.3} s", after.as_secs_f64())),
                    None => ("○".dim(), " ".repeat(10)),
                };
                let text = format!(" {:<24}{time}   {}", row.stage, row.note);
                lines.push(Line::from(vec![" ".into(), mark, text.into()]));
            }
        }
    }
    let block = Block::bordered().title(" failover ");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn draw_events(frame: &mut Frame, area: Rect, model: &Model) {
    let room = usize::from(area.height.saturating_sub(2));
    let lines: Vec<Line> = model
        .last_lines(room)
        .map(|line| {
            let at = Span::from(format!("{:8.3}  ", line.at.as_secs_f64())).dim();
            let text = Span::from(line.text.clone());
            Line::from(vec![at, if line.is_event { text } else { text.yellow() }])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" events ")), area);
}

fn draw_writes(frame: &mut Frame, area: Rect, model: &Model, now: Instant) {
    let room = usize::from(area.width.saturating_sub(2));
    let columns = model.recent_writes(now, room);
    let per_second = columns.last().copied().unwrap_or_default() * 1000 / BUCKET_MS;
    let writes = &model.writes;
    let target = writes.target.map_or("nobody".into(), |port| model.name_or_port(port));
    let title = format!(
        " {per_second} writes/s to {target}   sent {}   accepted {}   acknowledged {} ",
        writes.sent, writes.accepted, writes.acknowledged
    );
    let picture = Sparkline::default().data(&columns).style(Style::new().fg(Color::Green));
    frame.render_widget(picture.block(Block::bordered().title(title)), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::failover::Failover;
    use super::super::model::healthy_model;
    use super::*;

    fn drawn(model: &Model, selected: Option<usize>) -> String {
        let mut terminal = Terminal::new(TestBackend::new(90, 30)).expect("a test screen");
        let now = model.started + Duration::from_secs(1);
        terminal.draw(|frame| draw(frame, model, selected, now)).expect("draws");
        terminal.backend().to_string()
    }

    #[test]
    fn a_healthy_group_and_what_a_fault_makes_of_it() {
        let mut model = healthy_model();
        let text = drawn(&model, None);
        for shown in ["node-1 up      master", "node-2 up      replica 100      0", "2+2"] {
            assert!(text.contains(shown), "'{shown}' in\n{text}");
        }
        model.nodes[0].run = Run::Dead;
        model.nodes[1].cut = true;
        model.sentinels[2].run = Run::Frozen;
        model.failover = Some(Failover::new("kill -9 of node-1".into(), 0, model.started, 3));
        let text = drawn(&model, Some(3));
        for shown in
            ["node-1 dead", "node-2 cut off", "▶sentinel-1", "sentinel-3 frozen", "○ down noticed"]
        {
            assert!(text.contains(shown), "'{shown}' in\n{text}");
        }
    }

    #[test]
    fn a_tiny_terminal_is_survived() {
        let model = healthy_model();
        for (width, height) in [(1, 1), (10, 3), (30, 8)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
            terminal.draw(|frame| draw(frame, &model, Some(0), model.started)).expect("draws");
        }
    }

    #[test]
    fn keys_select_and_act() {
        let mut selected = 0;
        let mut press =
            |code, interactive| command(code, KeyModifiers::NONE, interactive, &mut selected);
        assert_eq!(press(KeyCode::Char('k'), true), Some(Command::Kill(Who::Node(0))));
        assert_eq!(press(KeyCode::Up, true), None);
        assert_eq!(press(KeyCode::Char('f'), true), Some(Command::Freeze(Who::Sentinel(2))));
        assert_eq!(press(KeyCode::Char('2'), true), None);
        assert_eq!(press(KeyCode::Char('9'), true), None);
        assert_eq!(press(KeyCode::Char('p'), true), Some(Command::Cut(Who::Node(1))));
        assert_eq!(press(KeyCode::Char('r'), false), None);
        assert_eq!(press(KeyCode::Char('q'), false), Some(Command::Quit));
        let interrupt = command(KeyCode::Char('c'), KeyModifiers::CONTROL, true, &mut 0);
        assert_eq!(interrupt, Some(Command::Interrupt));
    }
}
