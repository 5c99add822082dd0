"""Raw files of corpora: PDFs made by hand, and corpora of bytes that are at hand."""

import hashlib
import io

from shared.contracts.corpora import CorpusFile


def pdf(*pages, stream=None):
    """A PDF whose pages hold these texts, line by line; `stream` is the content of each page instead."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b""]
    objects.append(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>")
    kids = []
    for page in pages:
        content, how = stream or (_shown(page), b"")
        objects.append(b"<</Length %d%s>>stream\n%s\nendstream" % (len(content), how, content))
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents %d 0 R/Resources<</Font<</F 3 0 R>>>>>>"
            % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(kids), b" ".join(kids))
    return _file(objects)


def _shown(page):
    lines = [
        line.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
        for line in page.split("\n")
    ]
    return b"BT /F 11 Tf 14 TL 50 750 Td " + b" ".join(b"(%s) Tj T*" % line for line in lines) + b" ET"


def _file(objects):
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start))
    return out.getvalue()


def scan(pages):
    """A PDF of pages without text."""
    from pypdf import PdfWriter

    writer = PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(200, 200)
    return _written(writer)


def locked(content, password="secret"):
    """The same PDF with a password."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(content)))
    writer.encrypt(password, algorithm="RC4-128")
    return _written(writer)


def _written(writer):
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def add_corpus(registry, tenant, name, files, folder):
    """Store a corpus of these files, by name; returns its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, content in files.items():
        (folder / "file").write_bytes(content)
        file = CorpusFile(name=file_name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        manifest = registry.corpora.add_file(tenant, name, file, folder / "file")
    return manifest


ARTICLES = [
    (
        "Artículo 1.- La propiedad de las tierras y aguas comprendidas dentro de los límites del territorio "
        "corresponde originariamente a la Nación, la cual ha tenido el derecho de transmitir su dominio a los "
        "particulares."
    ),
    (
        "Artículo 2.- Toda persona tiene derecho al trabajo digno y socialmente útil; al efecto, se "
        "promoverán la creación de empleos y la organización social de trabajo, conforme a la ley."
    ),
    (
        "Artículo 3.- El patrón que despida a un trabajador sin causa justificada estará obligado a cumplir "
        "el contrato o a indemnizarlo con el importe de tres meses de salario, a elección del trabajador."
    ),
    (
        "Artículo 4.- Los menores de edad podrán heredar por testamento o por intestado, y sus bienes serán "
        "administrados por quienes ejerzan la patria potestad hasta su mayoría."
    ),
    (
        "Artículo 5.- El juez dictará sentencia dentro de los quince días siguientes a la audiencia, y la "
        "notificará a las partes por medio de los estrados del tribunal competente."
    ),
    (
        "Artículo 6.- Las autoridades fiscales podrán requerir a los contribuyentes la presentación de los "
        "documentos que acrediten el pago de las contribuciones causadas en el ejercicio anterior."
    ),
    (
        "Artículo 7.- Son obligaciones de los mexicanos contribuir para los gastos públicos de la Federación, "
        "de los Estados y del Municipio en que residan, de la manera proporcional y equitativa."
    ),
    (
        "Artículo 8.- El arrendatario no puede, sin consentimiento expreso del arrendador, variar la forma de "
        "la cosa arrendada; y si lo hace debe restablecerla al estado en que la recibió."
    ),
]
"""Articles of a law, made up from how Mexican laws speak."""
