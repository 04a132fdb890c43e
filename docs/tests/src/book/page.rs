//! A page, and the commands in it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use certmint_local_cluster::repository;
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

/// A page of the documentation.
#[derive(Debug)]
pub struct Page {
    /// Its path in the repository.
    pub name: String,
    /// Its commands.
    pub blocks: Vec<Block>,
}

/// Commands that stand together.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// Where they begin in the page.
    pub line: usize,
    /// The commands, as a shell takes them.
    pub commands: String,
    /// How they are to end.
    pub ending: Ending,
    /// What they are to print, when the page shows it.
    pub shows: Option<String>,
}

/// How a block's commands are to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With success.
    Succeeds,
    /// Refused.
    Fails,
    /// They are only shown.
    NotRun,
}

/// What stands in a page, as far as it matters here.
enum Part {
    Comment(String),
    Code { language: String, line: usize, text: String },
    Other,
}

impl Page {
    /// Reads the page at `name`, a path in the repository.
    ///
    /// # Errors
    /// When it cannot be read, has a comment of ours that is misspelt or before no commands, or does not show with
    /// what commands fail.
    pub fn read(name: &str) -> Result<Self> {
        let path = repository::root().join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let blocks = blocks(&text).with_context(|| name.to_owned())?;
        Ok(Self { name: name.to_owned(), blocks })
    }

    /// Every page below the folder `name` that has commands, in the order of their names; or the one page that it is.
    ///
    /// # Errors
    /// As [`Page::read`].
    pub fn below(name: &str) -> Result<Vec<Self>> {
        if repository::root().join(name).is_file() {
            return Self::read(name).map(|page| vec![page]);
        }
        let mut entries = fs::read_dir(repository::root().join(name))
            .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
            .with_context(|| format!("cannot list {name}"))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        let mut pages = Vec::new();
        for entry in entries {
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                pages.extend(Self::below(&name)?);
            } else if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
                pages.extend(Some(Self::read(&name)?).filter(|page| !page.blocks.is_empty()));
            }
        }
        Ok(pages)
    }
}

fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut ending = None;
    let mut after_commands = false;
    for part in parts(text) {
        let commands = matches!(&part, Part::Code { language, .. } if language == "sh");
        if !commands && ending.is_some() {
            bail!("a comment says how commands end, and none follow it");
        }
        match part {
            Part::Code { line, text, .. } if commands => blocks.push(Block {
                line,
                commands: text,
                ending: ending.take().unwrap_or(Ending::Succeeds),
                shows: None,
            }),
            Part::Code { language, text, .. } if language == "text" && after_commands => {
                if let Some(block) = blocks.last_mut() {
                    block.shows = Some(text);
                }
            }
            Part::Comment(comment) => ending = self::ending(&comment)?,
            Part::Code { .. } | Part::Other => {}
        }
        after_commands = commands;
    }
    let unexplained = |block: &&Block| block.ending == Ending::Fails && block.shows.is_none();
    if let Some(Block { line, .. }) = blocks.iter().find(unexplained) {
        bail!("line {line}: commands that fail are to show with what, in a text block after them");
    }
    Ok(blocks)
}

/// What a comment says of the commands after it; other comments say nothing.
fn ending(comment: &str) -> Result<Option<Ending>> {
    let said = comment.trim().trim_start_matches("<!--").trim_end_matches("-->").trim();
    Ok(match said.split_once(':') {
        None if said == "fails" => Some(Ending::Fails),
        Some(("not run", why)) if !why.trim().is_empty() => Some(Ending::NotRun),
        _ if said.starts_with("not run") => bail!("<!-- not run: --> has to say why"),
        _ => None,
    })
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut code = None;
    let mut comment = None;
    for (event, range) in Parser::new(text).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                let line = text.get(..range.start).unwrap_or_default().lines().count() + 1;
                code = Some((language.to_string(), line, String::new()));
            }
            Event::Text(more) => match &mut code {
                Some((_, _, text)) => text.push_str(&more),
                None => parts.push(Part::Other),
            },
            Event::End(TagEnd::CodeBlock) => {
                let ended = code.take().map(|(language, line, text)| Part::Code { language, line, text });
                parts.push(ended.unwrap_or(Part::Other));
            }
            Event::Start(Tag::HtmlBlock) => comment = Some(String::new()),
            Event::Html(more) => {
                if let Some(comment) = &mut comment {
                    comment.push_str(&more);
                }
            }
            Event::End(TagEnd::HtmlBlock) => parts.extend(comment.take().map(Part::Comment)),
            _ => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_what_they_print_are_found() {
        let page = "# Title\n\n```sh\nkubectl get pods\n```\n\n```text\nNAME …\n```\n\nNow it goes wrong:\n\n\
                    <!-- fails -->\n```sh\nkubectl annotate x\n```\n\n```text\nerror: …\n```\n\n```yaml\nno: command\n```\n";
        let found = blocks(page).unwrap();
        assert_eq!(
            found,
            [
                Block {
                    line: 3,
                    commands: "kubectl get pods\n".into(),
                    ending: Ending::Succeeds,
                    shows: Some("NAME …\n".into()),
                },
                Block {
                    line: 14,
                    commands: "kubectl annotate x\n".into(),
                    ending: Ending::Fails,
                    shows: Some("error: …\n".into()),
                },
            ]
        );
    }

    #[test]
    fn what_is_shown_after_other_words_is_no_output() {
        let found = blocks("```sh\ntrue\n```\n\nLater the log says:\n\n```text\nhello\n```\n").unwrap();
        assert_eq!(found[0].shows, None);
    }

    #[test]
    fn what_is_not_run_says_why() {
        let not_run = |why: &str| blocks(&format!("<!-- not run{why} -->\n```sh\ntrue\n```\n"));
        assert_eq!(not_run(": it needs a registry").unwrap()[0].ending, Ending::NotRun);
        assert!(not_run("").is_err());
        assert!(not_run(":").is_err());
    }

    #[test]
    fn what_fails_shows_with_what() {
        let error = blocks("<!-- fails -->\n```sh\nfalse\n```\n\nIt is refused.\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
    }

    #[test]
    fn a_comment_of_ours_before_no_commands_is_a_mistake() {
        assert!(blocks("<!-- fails -->\n\nwords\n").is_err());
    }
}
