"""Pages of the web: their encoding, their main text, and the archives they come in.

The main text is what resiliparse finds (Bevendorff et al. 2018, "Elastic ChatNoir"): navigation, headers, footers and
adverts go, headings, paragraphs and lists stay on lines of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding
from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed
from warcio.limitreader import LimitReader

from lyceum.corpus.bounded import Limits, Refused

MOST_UNREADABLE = 0.001  # of a page's characters may be U+FFFD, which stands for bytes that are none in its encoding
HTML_TYPES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a web server, as an archive keeps it."""

    place: str  # in its archive
    content: bytes
    refused: Refused | None = None  # why it is not to be read


def main_text(page: bytes) -> str:
    """The text of a page without what surrounds it; Refused when its bytes are no text in the encoding it names."""
    if b"\0" in page[:1024] and not page.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Refused("binary, not text", f"byte 0 at {page.index(0)}")
    html = bytes_to_str(page, detect_encoding(page, from_html_meta=True) or "utf-8")
    if (unreadable := html.count("�")) > MOST_UNREADABLE * len(html):
        raise Refused("bad encoding", f"{unreadable} of {len(html)} characters cannot be read")
    text: str = extract_plain_text(html, main_content=True, preserve_formatting=True, alt_texts=False)
    return text


def pages(archive: BinaryIO, limits: Limits) -> Iterator[Page]:
    """The answers of a WARC file; requests and other records are passed over. Refused where the archive is damaged."""
    try:
        for record in ArchiveIterator(archive):
            if record.rec_type != "response" or record.http_headers is None:
                continue
            place = record.rec_headers.get_header("WARC-Target-URI", "")
            kind = record.http_headers.get_header("Content-Type", HTML_TYPES[0]).partition(";")[0].strip().lower()
            if kind not in HTML_TYPES:
                yield Page(place, b"", Refused("page is no HTML", kind))
                continue
            content = record.content_stream().read(limits.document_bytes + 1)
            refused = None
            if len(content) > limits.document_bytes:
                refused = Refused("document too long", f"over limits.document_bytes, {limits.document_bytes}")
            elif isinstance(record.raw_stream, LimitReader) and record.raw_stream.limit:
                refused = Refused("cut short", f"{record.raw_stream.limit} bytes of the page are missing")
            yield Page(place, content, refused)
    except (ArchiveLoadFailed, AttributeError, ValueError) as error:  # warcio trips over damaged headers
        raise Refused("damaged", str(error).strip()[:200]) from error
