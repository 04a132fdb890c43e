//! Parser of the Markdown pages, which finds their commands, the expected exit status and the expected output.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use certmint_local_cluster::repository;
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

/// A page of the documentation.
#[derive(Debug)]
pub struct Page {
    /// Path in the repository.
    pub name: String,
    /// Command blocks of the page.
    pub blocks: Vec<Block>,
}

/// A block of commands.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// Line of the block in the page.
    pub line: usize,
    /// Commands, as shell script.
    pub commands: String,
    /// Expected exit status.
    pub status: ExpectedStatus,
    /// Expected output, if the page shows it.
    pub output: Option<String>,
}

/// Expected exit status of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedStatus {
    /// The commands succeed.
    Success,
    /// The last command fails.
    Failure,
    /// The commands are not run.
    NotRun,
}

/// A part of a page. The tests distinguish only comments and code blocks from all other parts.
enum Part {
    Comment(String),
    Code { language: String, line: usize, text: String },
    Other,
}

impl Page {
    /// Reads the page at `name`, a path in the repository.
    ///
    /// # Errors
    /// When the page cannot be read, a comment for the tests is misspelt or not followed by commands, or the
    /// output of failing commands is not shown.
    pub fn read(name: &str) -> Result<Self> {
        let path = repository::root().join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let blocks = blocks(&text).with_context(|| name.to_owned())?;
        Ok(Self { name: name.to_owned(), blocks })
    }

    /// Reads every page with commands below the directory `name`, sorted by path, or the one page `name`.
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
    let mut status = None;
    let mut after_commands = false;
    for part in parts(text) {
        let is_commands = matches!(&part, Part::Code { language, .. } if language == "sh");
        if !is_commands && status.is_some() {
            bail!("a comment for the tests is not followed by commands");
        }
        match part {
            Part::Code { line, text, .. } if is_commands => blocks.push(Block {
                line,
                commands: text,
                status: status.take().unwrap_or(ExpectedStatus::Success),
                output: None,
            }),
            Part::Code { language, text, .. } if language == "text" && after_commands => {
                if let Some(block) = blocks.last_mut() {
                    block.output = Some(text);
                }
            }
            Part::Comment(comment) => status = self::expected_status(&comment)?,
            Part::Code { .. } | Part::Other => {}
        }
        after_commands = is_commands;
    }
    let lacks_output = |block: &&Block| block.status == ExpectedStatus::Failure && block.output.is_none();
    if let Some(Block { line, .. }) = blocks.iter().find(lacks_output) {
        bail!("line {line}: add a text block with the output of the failing commands");
    }
    Ok(blocks)
}

/// Returns the exit status that a comment announces for the next commands, if it is a comment for the tests.
fn expected_status(comment: &str) -> Result<Option<ExpectedStatus>> {
    let words = comment.trim().trim_start_matches("<!--").trim_end_matches("-->").trim();
    Ok(match words.split_once(':') {
        None if words == "fails" => Some(ExpectedStatus::Failure),
        Some(("not run", why)) if !why.trim().is_empty() => Some(ExpectedStatus::NotRun),
        _ if words.starts_with("not run") => bail!("<!-- not run: --> needs a reason"),
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
    fn commands_and_output_are_found() {
        let page = "# Title\n\n```sh\nkubectl get pods\n```\n\n```text\nNAME …\n```\n\nNow it goes wrong:\n\n\
                    <!-- fails -->\n```sh\nkubectl annotate x\n```\n\n```text\nerror: …\n```\n\n```yaml\nno: command\n```\n";
        let found = blocks(page).unwrap();
        assert_eq!(
            found,
            [
                Block {
                    line: 3,
                    commands: "kubectl get pods\n".into(),
                    status: ExpectedStatus::Success,
                    output: Some("NAME …\n".into()),
                },
                Block {
                    line: 14,
                    commands: "kubectl annotate x\n".into(),
                    status: ExpectedStatus::Failure,
                    output: Some("error: …\n".into()),
                },
            ]
        );
    }

    #[test]
    fn a_text_block_after_other_words_is_not_output() {
        let found = blocks("```sh\ntrue\n```\n\nLater the log says:\n\n```text\nhello\n```\n").unwrap();
        assert_eq!(found[0].output, None);
    }

    #[test]
    fn blocks_that_are_not_run_need_a_reason() {
        let not_run = |why: &str| blocks(&format!("<!-- not run{why} -->\n```sh\ntrue\n```\n"));
        assert_eq!(not_run(": it needs a registry").unwrap()[0].status, ExpectedStatus::NotRun);
        assert!(not_run("").is_err());
        assert!(not_run(":").is_err());
    }

    #[test]
    fn failing_commands_need_output() {
        let error = blocks("<!-- fails -->\n```sh\nfalse\n```\n\nIt is rejected.\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
    }

    #[test]
    fn rejects_comments_without_commands() {
        assert!(blocks("<!-- fails -->\n\nwords\n").is_err());
    }
}
