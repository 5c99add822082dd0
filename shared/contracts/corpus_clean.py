"""The job `corpus.clean`: five modules that turn raw files into documents to train on, and what each of them did."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.corpora import CorpusName, CorpusRef, ModuleCount
from shared.contracts.training_tasks import FindCorpus, FindDataset, Training

MODULES = ("document_filter", "line_correction", "exact_deduplication", "quality_filter", "fuzzy_deduplication")
"""In their order (Deploying Multi-task Online Server with LLM, appendix E)."""
MAX_SAMPLES = 10
Share = Annotated[float, Field(ge=0, le=1)]
Script = Literal[
    "latin", "han", "kana", "hangul", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "thai", "other"
]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DocumentFilter(_Settings):
    """Which documents are none: by length, letters, repetition and script."""

    min_chars: Annotated[int, Field(ge=1, le=100_000)] = 10
    max_chars: Annotated[int, Field(ge=1, le=2_000_000)] = 1_000_000
    min_letters: Share = 0.3
    """Share of letters among letters and signs; digits count for neither, since numbers and dates are content."""
    max_repeated_lines: Share = 0.5
    """Share of the text in lines that stood in it before."""
    max_repeated_ngrams: Share = 0.75
    """Share of its runs of five words that stood in it before; of ten characters where no spaces part words."""
    scripts: Annotated[tuple[Script, ...], Field(max_length=11)] = ()
    """Scripts that nine tenths of the letters have to be of; any where it is empty."""


class LineCorrection(_Settings):
    """What is mended in every line."""

    hyphens: bool = True
    """Join words that a hyphen parts at the end of a line."""
    page_lines: bool = True
    """Leave out headers, footers and page numbers: what stands at the edge of two pages in five."""


class QualityFilter(_Settings):
    """A small classifier of texts: logistic regression on hashed n-grams of characters, fitted by the job."""

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Probability of a good text that a document needs."""
    good_corpus: CorpusRef | None = None
    """Corpus, cleaned before, of good texts; by default those of this one that the rules like best."""


class FuzzyDeduplication(_Settings):
    """Which documents are nearly another: MinHash finds candidates, their Jaccard index decides."""

    threshold: Annotated[float, Field(ge=0.3, le=0.95)] = 0.7
    """Jaccard index of shingles from which on the later document goes."""
    shingle: Annotated[int, Field(ge=1, le=10)] = 3
    """Words of a shingle; of characters, where no spaces part words, two more."""


class CorpusClean(Training):
    """Clean a corpus of raw files: five modules, each of which can be switched off by null or false."""

    kind: Literal["corpus.clean"] = "corpus.clean"
    corpus: CorpusRef
    name: CorpusName | Literal[""] = ""
    """Of the cleaned corpus; by default that of the raw one and `-clean`."""
    field: Annotated[str, Field(min_length=1, max_length=100)] = "text"
    """Member of JSON objects that holds the text; the other short ones are kept beside its source."""
    encoding: Annotated[str, Field(max_length=40, pattern=r"^[A-Za-z0-9_-]*$")] = ""
    """Of text files that are not UTF-8; by default it is found out, or the job ends and names the byte."""
    unreadable: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of files that cannot be read: they end the job, or are left out and named in its notes."""
    document_filter: DocumentFilter | None = DocumentFilter()
    line_correction: LineCorrection | None = LineCorrection()
    exact_deduplication: bool = True
    quality_filter: QualityFilter | None = QualityFilter()
    fuzzy_deduplication: FuzzyDeduplication | None = FuzzyDeduplication()

    @property
    def modules(self) -> list[str]:
        """The modules that are on, in their order."""
        return [module for module in MODULES if getattr(self, module)]

    def with_datasets(self, find: FindDataset) -> Self:  # noqa: ARG002
        """Return the same body: it names corpora alone."""
        return self

    def with_corpora(self, find: FindCorpus) -> Self:
        """Return a copy with every corpus replaced by the result of `find`."""
        changed: dict[str, Any] = {"corpus": find(self.corpus)}
        if self.quality_filter and self.quality_filter.good_corpus:
            good = {"good_corpus": find(self.quality_filter.good_corpus)}
            changed["quality_filter"] = self.quality_filter.model_copy(update=good)
        return self.model_copy(update=changed)


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class CleanSample(_Said):
    """Something that a module took out, and why."""

    source: dict[str, Any]
    """File, and page or line."""
    why: str
    text: str
    """Its beginning."""


class ModuleReport(ModuleCount):
    """What a module did."""

    taken: dict[str, int] = Field(default_factory=dict)
    """What it took out or mended, by reason."""
    samples: tuple[CleanSample, ...] = ()


class CleanResult(_Said):
    """What a cleaning made."""

    corpus: str
    """Id of the cleaned corpus."""
    name: str
    made_from: str
    documents: int
    size_bytes: int
    modules: dict[str, ModuleReport]
    notes: tuple[str, ...] = ()
    """Files that were left out, encodings that were found out, modules that could not do their work."""
