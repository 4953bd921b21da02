//! Draws the screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

use super::sample::Watched;
use super::state::{Mode, State};
use super::table::{Column, Row, Table, Tone};
use super::views::View;
use crate::cli::output::duration_ms;

/// The keys, as the help shows them.
const KEYS: &[(&str, &str)] = &[
    ("1..8  Tab", "views"),
    ("Up Down PgUp PgDn", "move the cursor (also j k)"),
    ("< >", "sort by the column at the left or right"),
    ("r", "reverse the order"),
    ("Enter", "the whole row at the cursor, also what is too wide"),
    ("/", "show only rows with these words; Esc shows all"),
    ("d", "drain the firewall, service or server at the cursor"),
    ("m", "take it out at once (maint)"),
    ("e", "enable it: end what was set"),
    ("p", "pause"),
    ("Space", "ask the engines now"),
    ("q", "quit"),
];

/// How the screen is coloured.
#[derive(Debug, Clone, Copy)]
pub struct Palette {
    /// False if the user wants no colours (<https://no-color.org>).
    pub colour: bool,
}

impl Palette {
    fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        match tone {
            Tone::Plain => style,
            Tone::Dim => style.add_modifier(Modifier::DIM),
            Tone::Bad if !self.colour => style.add_modifier(Modifier::BOLD),
            Tone::Good | Tone::Warn if !self.colour => style,
            Tone::Good => style.fg(Color::Green),
            Tone::Warn => style.fg(Color::Yellow),
            Tone::Bad => style.fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// Draws everything.
pub fn draw(frame: &mut Frame, state: &mut State, watched: &[Watched], palette: Palette) {
    let [title, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    draw_title(frame, title, state, watched);
    let alarms = alarms(watched, palette);
    let height = u16::try_from(alarms.len()).unwrap_or(u16::MAX).min(body.height / 3);
    let [top, rest] = Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(body);
    frame.render_widget(Paragraph::new(alarms), top);
    match state.view {
        View::Overview => draw_overview(frame, rest, state, watched, palette),
        View::Firewalls | View::Services | View::Sessions | View::Drops | View::Links | View::Events | View::Nodes => {
            let table = state.table(watched);
            draw_table(frame, rest, &table, Some(state), palette);
        }
    }
    draw_foot(frame, foot, state, watched, palette);
    match &state.mode {
        Mode::Help => draw_help(frame, body),
        Mode::Detail => {
            let table = state.table(watched);
            if let Some(row) = table.rows.get(state.cursor.0) {
                draw_row(frame, body, &table.columns, row, palette);
            }
        }
        Mode::Browse | Mode::Search | Mode::Confirm(_) => {}
    }
}

/// The titles of the views, the open one inverted.
fn draw_title(frame: &mut Frame, area: Rect, state: &State, watched: &[Watched]) {
    const NAME: &str = "fwlb top ";
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let titles: usize = View::ALL.iter().map(|view| view.name().len() + 3).sum();
    let mut spans = Vec::new();
    // On a narrow screen the titles need all the room.
    if titles + NAME.len() <= usize::from(area.width) {
        spans.push(Span::styled(NAME, bold));
    }
    for (index, view) in View::ALL.into_iter().enumerate() {
        let style = match view == state.view {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        spans.push(Span::styled(format!("{} {}", index + 1, view.name()), style));
        spans.push(Span::raw(" "));
    }
    if area.width > 110 {
        spans.push(Span::raw(format!("  {} engines", watched.len())));
    }
    frame.render_widget(Line::from(spans), area);
}

/// The alarms, above every view.
fn alarms(watched: &[Watched], palette: Palette) -> Vec<Line<'static>> {
    let style = palette.style(Tone::Bad);
    let mut lines = Vec::new();
    for one in watched {
        let engine = &one.last.engine;
        if let Some(problem) = &one.last.problem {
            lines.push(Line::styled(format!("{engine}: {problem}"), style));
        }
        for alarm in one.last.status.iter().flat_map(|status| &status.alarms) {
            let since = duration_ms(alarm.since_ms);
            let text = format!("{engine}: ALARM {} {} for {since}: {}", alarm.kind, alarm.subject, alarm.reason);
            lines.push(Line::styled(text, style));
        }
    }
    lines
}

/// Engines, nodes, firewalls, services and the last events on one screen: each table gets the lines that it needs, and
/// events get the rest. If there are too few, tables are shortened from the bottom up.
fn draw_overview(frame: &mut Frame, area: Rect, state: &mut State, watched: &[Watched], palette: Palette) {
    let engines = state.table(watched);
    let nodes = View::Nodes.table(watched);
    let firewalls = View::Firewalls.table(watched);
    let services = View::Services.table(watched);
    let events = View::Events.table(watched);
    let needs = |table: &Table| match table.rows.len() {
        0 => 0,
        rows => u16::try_from(rows + 2).unwrap_or(u16::MAX),
    };
    const LEAST_EVENTS: u16 = 4;
    let engine_lines = needs(&engines);
    let node_lines = needs(&nodes);
    let left = area.height.saturating_sub(engine_lines).saturating_sub(node_lines);
    let middle = left.saturating_sub(LEAST_EVENTS);
    let firewall_lines = needs(&firewalls).min(middle.max(middle / 2));
    let firewall_lines = match needs(&services) {
        0 => firewall_lines,
        services => firewall_lines.min(middle.saturating_sub(services.min(middle / 2))),
    };
    let service_lines = needs(&services).min(middle - firewall_lines.min(middle));
    let [first, second, third, fourth, fifth] = Layout::vertical([
        Constraint::Length(engine_lines),
        Constraint::Length(node_lines),
        Constraint::Length(firewall_lines),
        Constraint::Length(service_lines),
        Constraint::Min(0),
    ])
    .areas(area);
    draw_table(frame, first, &engines, None, palette);
    draw_table(frame, second, &nodes, None, palette);
    draw_table(frame, third, &firewalls, None, palette);
    draw_table(frame, fourth, &services, None, palette);
    draw_table(frame, fifth, &events, None, palette);
}

/// Draws a table with its title, and with a cursor if it has one.
fn draw_table(frame: &mut Frame, area: Rect, table: &Table, state: Option<&State>, palette: Palette) {
    if area.height == 0 {
        return;
    }
    let fitted = table.fit(usize::from(area.width));
    let order = state.and_then(State::order);
    let head = fitted.iter().map(|&(column, width)| {
        let mark = match order {
            Some((title, true)) if title == table.columns[column].title => "v",
            Some((title, false)) if title == table.columns[column].title => "^",
            Some(_) | None => "",
        };
        padded(&format!("{}{mark}", table.columns[column].title), width, table.columns[column].right)
    });
    let mut lines = vec![Line::styled(
        head.collect::<Vec<_>>().join("  "),
        Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
    )];
    let room = usize::from(area.height).saturating_sub(1);
    let cursor = state.map(|state| state.cursor.0);
    // The cursor is kept in the middle as long as there are rows on both sides.
    let most = table.rows.len().saturating_sub(room);
    let skipped = cursor.map_or(0, |line| line.saturating_sub(room / 2).min(most));
    for (line, row) in table.rows.iter().enumerate().skip(skipped).take(room) {
        let mut spans = Vec::with_capacity(fitted.len() * 2);
        for &(column, width) in &fitted {
            let cell = &row.cells[column];
            let text = padded(&cell.text, width, table.columns[column].right);
            spans.push(Span::styled(text, palette.style(cell.tone)));
            spans.push(Span::raw("  "));
        }
        let style = match cursor == Some(line) {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        lines.push(Line::from(spans).style(style));
    }
    if table.rows.is_empty() && state.is_some() {
        let nothing = match state.is_some_and(|state| !state.filter.is_empty()) {
            true => "nothing matches; Esc shows all",
            false => "nothing here",
        };
        lines.push(Line::styled(nothing, palette.style(Tone::Dim)));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// The text padded or cut to exactly `width`; a mark shows that it was cut.
fn padded(text: &str, width: usize, right: bool) -> String {
    if text.chars().count() > width {
        let cut: String = text.chars().take(width.saturating_sub(1)).collect();
        return format!("{cut}…");
    }
    if right { format!("{text:>width$}") } else { format!("{text:<width$}") }
}

/// Draws a question, the search text, a message, or the most useful keys.
fn draw_foot(frame: &mut Frame, area: Rect, state: &State, watched: &[Watched], palette: Palette) {
    let line = match (&state.mode, &state.message) {
        (Mode::Confirm(change), _) => {
            let style = palette.style(Tone::Warn).add_modifier(Modifier::BOLD);
            Line::styled(format!("{} [y/N]", change.question), style)
        }
        (Mode::Search, _) => Line::raw(format!("/{}_", state.filter)),
        (_, Some((message, tone))) => Line::styled(message.clone(), palette.style(*tone)),
        (_, None) => {
            let mut text = "? keys  q quit  / search  < > sort  d drain  e enable".to_owned();
            if state.paused {
                text = format!("PAUSED (p: go on)  {text}");
            }
            if !state.filter.is_empty() {
                text = format!("only rows with {:?} (Esc: all)  {text}", state.filter);
            }
            let listed: usize = watched.iter().map(|one| one.last.sessions.len()).sum();
            let live: usize = watched.iter().filter_map(|one| one.last.status.as_ref()).map(|one| one.sessions).sum();
            if state.view == View::Sessions && listed < live {
                text = format!("the busiest {listed} of {live} sessions  {text}");
            }
            Line::styled(text, palette.style(Tone::Dim))
        }
    };
    frame.render_widget(line, area);
}

/// Draws every column of one row, each on as many lines as its text takes.
fn draw_row(frame: &mut Frame, area: Rect, columns: &[Column], row: &Row, palette: Palette) {
    let width = columns.iter().map(|column| column.title.len()).max().unwrap_or(0);
    // Borders and a gap on each side.
    let room = usize::from(area.width).saturating_sub(width + 6).max(1);
    let mut lines = Vec::new();
    for (column, cell) in columns.iter().zip(&row.cells) {
        for (at, words) in wrapped(&cell.text, room).into_iter().enumerate() {
            let title = if at == 0 { column.title } else { "" };
            let title = Span::styled(format!(" {title:width$}  "), palette.style(Tone::Dim));
            lines.push(Line::from(vec![title, Span::styled(words, palette.style(cell.tone))]));
        }
    }
    draw_box(frame, area, lines, " Any key closes this ");
}

/// The text in lines of at most `width` characters; a longer word is cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(width) {
            let last = lines.last_mut().expect("there is one from the beginning");
            let used = last.chars().count();
            let piece: String = piece.iter().collect();
            match used {
                0 => last.push_str(&piece),
                _ if used + 1 + piece.chars().count() <= width => *last += &format!(" {piece}"),
                _ => lines.push(piece),
            }
        }
    }
    lines
}

fn draw_help(frame: &mut Frame, area: Rect) {
    let width = KEYS.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let lines: Vec<_> = KEYS.iter().map(|(key, what)| Line::raw(format!(" {key:width$}  {what} "))).collect();
    draw_box(frame, area, lines, " Keys ");
}

/// Lines in the middle of the screen.
fn draw_box(frame: &mut Frame, area: Rect, lines: Vec<Line<'_>>, title: &str) {
    let wide = u16::try_from(lines.iter().map(Line::width).max().unwrap_or(0) + 2).unwrap_or(u16::MAX);
    let high = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let (wide, high) = (wide.min(area.width), high.min(area.height));
    let middle =
        Rect { x: area.x + (area.width - wide) / 2, y: area.y + (area.height - high) / 2, width: wide, height: high };
    let block = ratatui::widgets::Block::bordered().title(title);
    frame.render_widget(Clear, middle);
    frame.render_widget(Paragraph::new(lines).block(block), middle);
}
