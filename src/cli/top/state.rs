//! The state of the view and the meaning of keys, without a terminal or an engine.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::sample::Watched;
use super::table::{Subject, Table, Tone};
use super::views::View;
use crate::api::{Done, ServerChange, SessionSort, calls};
use crate::cli::engines::Engine;
use crate::client::ClientError;
use crate::config::AdminState;

/// What keys do at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// They move and select.
    Browse,
    /// They edit the search text.
    Search,
    /// They answer a question at the bottom.
    Confirm(Change),
    /// The list of keys is shown.
    Help,
    /// The row at the cursor is shown in full.
    Detail,
}

/// A change that was requested and is not yet confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The object to change.
    pub subject: Subject,
    /// The new state; `None`: back to that of the file.
    pub admin: Option<AdminState>,
    /// The consequences, as a question.
    pub question: String,
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Draw the screen.
    Draw,
    /// End the program.
    Quit,
    /// Ask the engines at once.
    Refresh,
    /// Make the change.
    Apply(Change),
}

/// Everything that keys change.
#[derive(Debug)]
pub struct State {
    /// The view.
    pub view: View,
    /// What keys do at the moment.
    pub mode: Mode,
    /// Rows without this text are left out.
    pub filter: String,
    /// Engines are not asked.
    pub paused: bool,
    /// The result of the last change.
    pub message: Option<(String, Tone)>,
    /// Line of the cursor, and the object there.
    pub cursor: (usize, Option<Subject>),
    /// The order of each view, in the order of [`View::ALL`].
    order: [Option<(&'static str, bool)>; View::ALL.len()],
}

impl Default for State {
    fn default() -> Self {
        Self {
            view: View::Overview,
            mode: Mode::Browse,
            filter: String::new(),
            paused: false,
            message: None,
            cursor: (0, None),
            order: View::ALL.map(View::order),
        }
    }
}

impl State {
    /// The column by which the view is sorted, and whether the largest comes first.
    pub fn order(&self) -> Option<(&'static str, bool)> {
        self.order[self.view_index()]
    }

    /// By which value sessions are requested: the one by which the view is sorted, else the busiest first.
    pub fn session_sort(&self) -> SessionSort {
        match self.order().map(|(title, _)| title) {
            Some("BIT/S") => SessionSort::Rate,
            Some("AGE") => SessionSort::Age,
            Some("IDLE") => SessionSort::Idle,
            Some("PACKETS") => SessionSort::Packets,
            Some("BYTES") => SessionSort::Bytes,
            Some(_) | None => SessionSort::PacketRate,
        }
    }

    /// The table of the view: filtered, sorted, and with the cursor on the line to which its object moved.
    pub fn table(&mut self, watched: &[Watched]) -> Table {
        let mut table = self.view.table(watched);
        if !self.filter.is_empty() {
            table.filter(&self.filter);
        }
        if let Some((title, descending)) = self.order()
            && let Some(column) = table.columns.iter().position(|column| column.title == title)
        {
            table.sort(column, descending);
        }
        if let Some(subject) = &self.cursor.1
            && let Some(line) = table.rows.iter().position(|row| row.subject == *subject)
        {
            self.cursor.0 = line;
        }
        self.clamp_cursor(&table);
        table
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent, watched: &[Watched]) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Action::Quit,
                _ => Action::Draw,
            };
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            // Any key closes the help, or the row.
            Mode::Help | Mode::Detail => Action::Draw,
            Mode::Confirm(change) => match key.code {
                KeyCode::Char('y' | 'Y') => Action::Apply(change),
                _ => {
                    self.message = Some(("nothing was changed".to_owned(), Tone::Dim));
                    Action::Draw
                }
            },
            Mode::Search => {
                self.search(key.code);
                Action::Draw
            }
            Mode::Browse => {
                self.message = None;
                self.browse_key(key.code, watched)
            }
        }
    }

    fn search(&mut self, code: KeyCode) {
        self.mode = Mode::Search;
        match code {
            KeyCode::Enter => self.mode = Mode::Browse,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Browse;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if self.filter.len() < 64 => self.filter.push(letter),
            _ => {}
        }
    }

    fn browse_key(&mut self, code: KeyCode, watched: &[Watched]) -> Action {
        const PAGE: isize = 10;
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Search,
            KeyCode::Enter => self.mode = Mode::Detail,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char(digit @ '1'..='8') => self.set_view(digit as usize - '1' as usize),
            KeyCode::Tab => self.set_view((self.view_index() + 1) % View::ALL.len()),
            KeyCode::BackTab => self.set_view((self.view_index() + View::ALL.len() - 1) % View::ALL.len()),
            KeyCode::Down | KeyCode::Char('j') => self.step(1, watched),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1, watched),
            KeyCode::PageDown => self.step(PAGE, watched),
            KeyCode::PageUp => self.step(-PAGE, watched),
            KeyCode::Home => self.step(isize::MIN, watched),
            KeyCode::End => self.step(isize::MAX, watched),
            KeyCode::Right | KeyCode::Char('>') => self.sort_by_next(1, watched),
            KeyCode::Left | KeyCode::Char('<') => self.sort_by_next(-1, watched),
            KeyCode::Char('r') => {
                let order = &mut self.order[View::ALL.iter().position(|view| *view == self.view).unwrap_or(0)];
                *order = order.map(|(title, descending)| (title, !descending));
            }
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char(' ') => return Action::Refresh,
            KeyCode::Char('d') => self.ask_confirmation(Some(AdminState::Drain), watched),
            KeyCode::Char('m') => self.ask_confirmation(Some(AdminState::Maint), watched),
            KeyCode::Char('e') => self.ask_confirmation(None, watched),
            _ => {}
        }
        match code {
            // Sessions are requested only while they are shown.
            KeyCode::Char('1'..='8') | KeyCode::Tab | KeyCode::BackTab => Action::Refresh,
            _ => Action::Draw,
        }
    }

    fn view_index(&self) -> usize {
        View::ALL.iter().position(|view| *view == self.view).unwrap_or(0)
    }

    fn set_view(&mut self, index: usize) {
        self.view = View::ALL[index];
        self.cursor = (0, None);
    }

    /// Moves the cursor by `lines`, as far as there are rows.
    fn step(&mut self, lines: isize, watched: &[Watched]) {
        let table = self.table(watched);
        self.cursor.0 = self.cursor.0.saturating_add_signed(lines);
        self.cursor.1 = None;
        self.clamp_cursor(&table);
    }

    fn clamp_cursor(&mut self, table: &Table) {
        self.cursor.0 = self.cursor.0.min(table.rows.len().saturating_sub(1));
        self.cursor.1 = table.rows.get(self.cursor.0).map(|row| row.subject.clone());
    }

    /// Sorts by the column beside the present one; before the first and after the last one, rows are in the order of
    /// the source.
    fn sort_by_next(&mut self, step: isize, watched: &[Watched]) {
        let table = self.view.table(watched);
        let index = self.view_index();
        let titles: Vec<_> = table.columns.iter().map(|column| (column.title, column.right)).collect();
        let at = self.order[index].and_then(|(title, _)| titles.iter().position(|(one, _)| *one == title));
        let next = match (at, step) {
            (None, 1..) => Some(0),
            (None, _) => titles.len().checked_sub(1),
            (Some(at), step) => at.checked_add_signed(step),
        };
        // Numbers begin with the largest, words with the first.
        self.order[index] = next.and_then(|at| titles.get(at)).copied();
        self.cursor.1 = None;
    }

    /// Asks whether the object under the cursor is to be changed.
    fn ask_confirmation(&mut self, admin: Option<AdminState>, watched: &[Watched]) {
        let table = self.table(watched);
        let Some(subject) = table.rows.get(self.cursor.0).map(|row| row.subject.clone()) else {
            return;
        };
        let Some((kind, name, sessions, configured)) = described(&subject, watched) else {
            let hint = "choose a firewall (2), a service or a server (3) first";
            self.message = Some((hint.to_owned(), Tone::Warn));
            return;
        };
        // Enabling means that it takes sessions, even if the file says otherwise.
        let admin = admin.or((configured != AdminState::Ready).then_some(AdminState::Ready));
        let stay = if sessions == 1 { "1 session stays".to_owned() } else { format!("{sessions} sessions stay") };
        let question = match admin {
            Some(AdminState::Drain) => format!("Drain {kind} {name}? {stay}, new ones go elsewhere."),
            Some(AdminState::Maint) => format!("Take {kind} {name} out at once? {sessions} sessions are cut or moved."),
            Some(AdminState::Ready) => {
                format!("Enable {kind} {name} against the file's {configured:?}?").to_lowercase()
            }
            None => format!("Enable {kind} {name}? It goes back to what the file says."),
        };
        self.mode = Mode::Confirm(Change { subject, admin, question });
    }
}

/// Kind, name, sessions and configured state of an object that can be changed.
fn described(subject: &Subject, watched: &[Watched]) -> Option<(&'static str, String, u64, AdminState)> {
    let of = |engine: &String| watched.iter().find(|one| one.last.engine == *engine);
    match subject {
        Subject::Other(_) => None,
        Subject::Firewall { group, name, engine } => {
            let one = of(engine)?.last.firewalls.iter().find(|one| one.group == *group && one.name == *name)?;
            Some(("firewall", format!("{group}/{name}"), one.sessions, one.admin))
        }
        Subject::Service { name, engine } => {
            let one = of(engine)?.last.services.iter().find(|one| one.name == *name)?;
            Some(("service", name.clone(), one.sessions, one.admin))
        }
        Subject::Server { service, name, engine } => {
            let all = of(engine)?.last.services.iter().find(|one| one.name == *service)?;
            let one = all.servers.iter().find(|one| one.name == *name)?;
            Some(("server", format!("{service}/{name}"), one.sessions, one.admin))
        }
    }
}

impl Change {
    /// The words of `fwlb set` that name the object.
    pub fn command(&self) -> String {
        match &self.subject {
            Subject::Other(name) => format!("set {name}"),
            Subject::Firewall { group, name, engine: _ } => format!("set firewall {group}/{name}"),
            Subject::Service { name, engine: _ } => format!("set service {name}"),
            Subject::Server { service, name, engine: _ } => format!("set server {service}/{name}"),
        }
    }

    /// The call that makes it, and the engine that it is for; `None`: for every engine that knows the firewall.
    pub fn call(&self, by: String) -> Option<(Option<&str>, ChangeCall)> {
        let (admin, by) = (self.admin, Some(by));
        let reason = Some("set in fwlb top".to_owned());
        match &self.subject {
            Subject::Other(_) => None,
            Subject::Firewall { group, name, engine: _ } => {
                let (group, name) = (Some(group.clone()), name.clone());
                let call = calls::SetFirewall { group, name, admin, reason, by, force: false };
                Some((None, ChangeCall::Firewall(call)))
            }
            Subject::Service { name, engine } => {
                let call = calls::SetService { name: name.clone(), admin, reason, by };
                Some((Some(engine), ChangeCall::Service(call)))
            }
            Subject::Server { service, name, engine } => {
                let call = calls::SetServer::new(service, name, ServerChange::Admin(admin));
                Some((Some(engine), ChangeCall::Server(calls::SetServer { reason, by, ..call })))
            }
        }
    }
}

/// A call that makes a change.
#[derive(Debug, PartialEq, Eq)]
pub enum ChangeCall {
    /// Sets a firewall.
    Firewall(calls::SetFirewall),
    /// Sets a service.
    Service(calls::SetService),
    /// Sets a server.
    Server(calls::SetServer),
}

impl ChangeCall {
    /// Sends it to an engine.
    pub async fn send(&self, engine: &Engine) -> Result<Done, ClientError> {
        match self {
            Self::Firewall(call) => engine.client.ask(call).await,
            Self::Service(call) => engine.client.ask(call).await,
            Self::Server(call) => engine.client.ask(call).await,
        }
    }
}
