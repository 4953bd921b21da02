//! Lists the kept configurations with the differences between neighbours.

use super::{Reloader, load};
use crate::api::ApiError;
use crate::config::{Config, differences};
use crate::engine::view::KeptConfigView;

impl Reloader {
    /// The kept configurations of an engine, newest first.
    pub(in crate::runtime) async fn configs(&self, engine: &str) -> Result<Vec<KeptConfigView>, ApiError> {
        let target = self.engine(engine)?;
        let listing = tokio::task::spawn_blocking(move || {
            let history = &target.history;
            let in_force = target.shared.config().digest.clone();
            let waits = history.unconfirmed();
            let records = history.list();
            // A kept text is read as a reload would read it; files to which it refers may be gone or have changed.
            let meaning = |number: u64| -> Option<Config> {
                let path = history.path(number);
                load(&path, &super::read_file(&path).ok()?).config
            };
            let meanings: Vec<Option<Config>> = records.iter().map(|record| meaning(record.number)).collect();
            let mut views = Vec::new();
            for (back, record) in records.iter().enumerate() {
                let before = meanings.get(back + 1).and_then(Option::as_ref);
                let told = before.zip(meanings[back].as_ref()).map(|(before, this)| differences(before, this));
                views.push(KeptConfigView {
                    back,
                    number: record.number,
                    at: record.at.clone(),
                    by: record.by.clone(),
                    how: record.how.as_str().to_owned(),
                    digest: record.digest.clone(),
                    file: record.file.display().to_string(),
                    kept: history.path(record.number).display().to_string(),
                    in_force: back == 0 && record.digest == in_force,
                    unconfirmed: back == 0 && waits.as_ref().is_some_and(|waits| waits.digest == record.digest),
                    differences: told,
                });
            }
            views
        });
        listing.await.map_err(|error| ApiError::Unavailable(error.to_string()))
    }
}
