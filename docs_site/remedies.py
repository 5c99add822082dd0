"""Whether a sentence says what to do: a clause that begins with a verb in the imperative, or names a command."""

import re

_VERBS = """
abort accept add allow ask begin bring build call cancel change check choose clean confirm copy correct create delete
do edit enable encode end export fetch fine-tune fuse get give grant gzip install join keep leave let list load look
lower make mend move name nest open pack pass pause plan promote put raise read reduce release remove rename repeat
replace replay report restart restore resume retry reword run save say scale see select send set share shorten show
sign spell split start stop store submit take test tick train transpose trim try turn unpack update upload use wait
widen write
"""
_CLAUSE = re.compile(
    rf"(?:^|[:;,.(-] |\b(?:or|and|then|first|too|to) )(?:{'|'.join(_VERBS.split())})\b|`signalbox [a-z]", re.IGNORECASE
)


def says_what_to_do(sentence: str) -> bool:
    """Whether a sentence has a remedy beside the cause."""
    return bool(_CLAUSE.search(sentence))
