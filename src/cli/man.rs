//! `fwlb man`: a manual page for every command, and fwlb.toml(5).

mod commands;
mod extra;
mod reference;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Command;

use crate::cli::output;

/// Print a manual page (fwlb man fwlb.toml | man -l -), or write all of them into a directory
#[derive(Debug, clap::Args)]
pub struct Args {
    /// fwlb, a command such as fwlb-show-sessions, or fwlb.toml: the reference of the configuration
    #[arg(default_value = "fwlb", conflicts_with = "directory")]
    page: String,
    /// Write fwlb.1, fwlb-show.1, ..., fwlb.toml.5 there
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// In Markdown: fwlb, which is all commands in one page, or fwlb.toml
    #[arg(long, conflicts_with = "directory")]
    markdown: bool,
}

pub fn run(args: &Args, command: Command) -> anyhow::Result<ExitCode> {
    if args.markdown {
        output::print(&in_markdown(&args.page, command)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let pages = pages(command)?;
    match &args.directory {
        Some(directory) => write_all(&pages, directory)?,
        None => {
            let name = args.page.as_str();
            let found = pages.iter().find(|page| page.is_called(name));
            let page = found.with_context(|| format!("no page {name:?}; there are: {}", names(&pages)))?;
            output::print(&page.text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn in_markdown(page: &str, mut command: Command) -> anyhow::Result<String> {
    match page {
        "fwlb" => {
            command.build();
            Ok(commands::markdown(&command))
        }
        "fwlb.toml" => Ok(reference::markdown()),
        page => bail!("fwlb and fwlb.toml are there in Markdown, not {page}"),
    }
}

/// A manual page.
struct Page {
    /// `fwlb-show.1`.
    file: String,
    text: String,
}

impl Page {
    /// Whether the page has this name: `fwlb-show`, or as it is typed: `show`.
    fn is_called(&self, name: &str) -> bool {
        let own = self.file.rsplit_once('.').map_or(self.file.as_str(), |(own, _)| own);
        own == name || own.strip_prefix("fwlb-") == Some(name)
    }
}

fn pages(command: Command) -> anyhow::Result<Vec<Page>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    of_command(command, &mut pages)?;
    pages.push(Page { file: "fwlb.toml.5".to_owned(), text: reference::page() });
    Ok(pages)
}

fn of_command(command: Command, pages: &mut Vec<Page>) -> anyhow::Result<()> {
    let within: Vec<_> = command.get_subcommands().filter(|one| !one.is_hide_set()).cloned().collect();
    let man = clap_mangen::Man::new(command);
    let file = man.get_filename();
    let mut text = Vec::new();
    man.render(&mut text)?;
    let own = file.trim_end_matches(".1");
    let text = String::from_utf8_lossy(&text).into_owned() + &extra::sections(own);
    pages.push(Page { file, text });
    within.into_iter().try_for_each(|command| of_command(command, pages))
}

fn write_all(pages: &[Page], directory: &Path) -> anyhow::Result<()> {
    for Page { file, text } in pages {
        let path = directory.join(file);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn names(pages: &[Page]) -> String {
    let names = pages.iter().map(|page| page.file.rsplit_once('.').map_or(page.file.as_str(), |(name, _)| name));
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
