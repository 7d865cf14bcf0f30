"""What customers say in calls and mails: transcripts as text files, mails as they travel.

some tickets of the help desk ─> what is said (topic, product, language) ─> calls/*.txt, mails/*.eml
                                                       └─> metadata/documents_<month or day>.json

The metadata link a document with its ticket, customer and agent. Mails come in the shapes that mail
programs make: HTML alone, both forms, attachments, older encodings, forwarded ones; a defective one
is cut. It leaves out sound and pictures worth looking at.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import partial

import numpy as np
import pyarrow as pa

from anycompany import days
from anycompany.systems.files import Outbox, month_of
from anycompany.systems.helpdesk import FIRST_USER, SUBJECTS
from anycompany.world import World

_DOCUMENTS, _LEAST, _TICKETS = 400, 40, 30_000
_LANGUAGES = ["en", "en", "en", "es", "de", "fr"]
_OPENERS = {
    "en": ["Thank you for calling, how can I help you?", "Hello, I am writing about my {product}."],
    "es": ["Gracias por llamar, ¿en qué puedo ayudarle?", "Hola, escribo por mi {product}."],
    "de": ["Danke für Ihren Anruf, wie kann ich helfen?", "Guten Tag, es geht um {product}."],
    "fr": ["Merci de votre appel, que puis-je faire ?", "Bonjour, je vous écris pour {product}."],
}
_MATTERS = {
    "en": [
        "The screen stays black and a red light is blinking since the last firmware update.",
        "The parcel was due on Monday, the courier says that it is still in the depot.",
        "The left stick drifts, and the controller loses the Bluetooth connection every evening.",
        "The box was torn open, the cable is missing and I want my money back.",
        "After I changed my password, the code for signing in never arrives by mail.",
        "The invoice shows the wrong address and the discount of the coupon is missing.",
        "The game freezes at the loading screen, even after a fresh installation.",
        "I would like to know how long the warranty of the battery lasts.",
        "I ordered the white one and got the black one, please exchange it.",
        "The subscription was renewed although I had cancelled it in time.",
    ],
    "es": [
        "La pantalla se queda negra y parpadea una luz roja desde la actualización.",
        "El paquete debía llegar el lunes y el mensajero dice que sigue en el almacén.",
        "El mando se desconecta todas las noches y la palanca izquierda se mueve sola.",
        "La caja llegó rota, falta el cable y quiero la devolución del dinero.",
        "No llega el código para iniciar sesión después de cambiar la contraseña.",
        "La factura lleva una dirección equivocada y falta el descuento.",
        "El juego se congela en la pantalla de carga.",
        "Quisiera saber cuánto dura la garantía de la batería.",
        "Pedí el blanco y recibí el negro, quiero un cambio.",
        "Se renovó la suscripción aunque la había cancelado.",
    ],
    "de": [
        "Der Bildschirm bleibt schwarz, seit der Aktualisierung blinkt ein rotes Licht.",
        "Das Paket sollte am Montag kommen, der Bote sagt, es liegt noch im Lager.",
        "Der linke Stick driftet und der Regler verliert jeden Abend die Verbindung.",
        "Der Karton war aufgerissen, das Kabel fehlt, ich möchte mein Geld zurück.",
        "Der Code für die Anmeldung kommt nach dem Wechsel des Passworts nicht an.",
        "Auf der Rechnung steht die falsche Anschrift, und der Gutschein fehlt.",
        "Das Spiel bleibt beim Laden hängen, auch nach neuer Installation.",
        "Wie lange gilt die Gewährleistung für den Akku?",
        "Ich habe Weiß bestellt und Schwarz bekommen, bitte tauschen Sie das um.",
        "Das Abonnement wurde verlängert, obwohl ich rechtzeitig gekündigt hatte.",
    ],
    "fr": [
        "L'écran reste noir et un voyant rouge clignote depuis la mise à jour.",
        "Le colis devait arriver lundi, le livreur dit qu'il est encore au dépôt.",
        "La manette perd la connexion chaque soir et le stick gauche dérive.",
        "Le carton était déchiré, le câble manque, je veux un remboursement.",
        "Le code de connexion n'arrive pas après le changement du mot de passe.",
        "La facture porte une mauvaise adresse et la remise manque.",
        "Le jeu se fige à l'écran de chargement.",
        "Combien de temps dure la garantie de la batterie ?",
        "J'ai commandé le blanc et reçu le noir, merci de l'échanger.",
        "L'abonnement a été renouvelé alors que je l'avais résilié.",
    ],
}
_CLOSINGS = {
    "en": "Please tell me what to do next. Thank you.",
    "es": "Díganme qué debo hacer. Gracias.",
    "de": "Bitte sagen Sie mir, wie es weitergeht. Danke.",
    "fr": "Dites-moi ce que je dois faire. Merci.",
}
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc0"
    "000003010100c9fe92ef0000000049454e44ae426082"
)


@dataclass(frozen=True)
class Documents:
    """Documents at the end of a day: the files, and their content for the truth."""

    outbox: Outbox
    truth: pa.Table


@dataclass(frozen=True)
class _Document:
    """One call or mail; `body` is what a reader should see of it."""

    ticket: int
    customer: int
    agent: int
    is_mail: bool
    language: str
    recorded: int
    subject: str
    body: str
    shape: int
    is_cut: bool

    @property
    def name(self) -> str:
        return f"{'mail' if self.is_mail else 'call'}_{self.ticket}"

    @property
    def path(self) -> str:
        month = datetime.fromtimestamp(self.recorded, UTC).strftime("%Y-%m")
        kind = "mails" if self.is_mail else "calls"
        return f"{kind}/{month}/{self.name}.{'eml' if self.is_mail else 'txt'}"


def build(world: World) -> Documents:
    """Builds the documents, notes their defects, and keeps what the truth needs."""
    found, box = _documents(world), Outbox()
    batches: dict[str, tuple[int, list[_Document]]] = {}
    for one in found:
        day = int(days.day_of(one.recorded))
        box.add(one.path, day, _maker(world, one))
        first = month_of(day) if day <= days.FIRST_STATE else day
        form = "%Y-%m" if day <= days.FIRST_STATE else "%Y-%m-%d"
        batch = days.date_of(first).strftime(form)
        batches.setdefault(batch, (day, []))
        batches[batch] = (max(day, batches[batch][0]), [*batches[batch][1], one])
    for batch, (day, listed) in batches.items():
        box.add(f"metadata/documents_{batch}.json", day, partial(_metadata, listed))
    cut = [one for one in found if one.is_cut]
    world.log.add(
        "documents.mails",
        pa.array([one.name for one in cut], pa.string()),
        "truncated",
        None,
        origin=pa.array([one.path for one in cut], pa.string()),
    )
    return Documents(box, _truth([one for one in found if not one.is_cut]))


def _documents(world: World) -> list[_Document]:
    """Picks tickets that came with a call or mail; a small company keeps a few all the same."""
    asked, draw, scale = world.helpdesk.asked, world.draws, world.settings.scale
    share = max(_DOCUMENTS / _TICKETS, _LEAST / (_TICKETS * scale))
    recorded = asked.created + 90
    chosen = draw.chance("documents", asked.id, share) & asked.valid & (recorded < world.cut)
    rows = np.flatnonzero(chosen)
    ids = asked.id[rows]
    drawn = zip(
        rows.tolist(),
        draw.chance("documents.mail", ids, 0.5).tolist(),
        draw.below("documents.language", ids, len(_LANGUAGES)).tolist(),
        world.pick_product("documents.product", ids).tolist(),
        draw.below("documents.shape", ids, len(_SHAPES)).tolist(),
        draw.chance("documents.cut", ids, world.spoiler.rate * 10).tolist(),
        strict=True,
    )
    found = []
    for row, is_mail, place, product, shape, is_cut in drawn:
        subject, language = int(asked.subject[row]), _LANGUAGES[place]
        found.append(
            _Document(
                ticket=int(asked.id[row]),
                customer=FIRST_USER + int(asked.user[row]),
                agent=int(asked.agent[row]),
                is_mail=is_mail,
                language=language,
                recorded=int(recorded[row]),
                subject=SUBJECTS[subject],
                body=_body(is_mail, language, subject, world.catalogue.name[product]),
                shape=shape,
                is_cut=is_cut and is_mail,
            )
        )
    return found


def _body(is_mail: bool, language: str, subject: int, product: str) -> str:
    matter, closing = _MATTERS[language][subject], _CLOSINGS[language]
    opener = _OPENERS[language][int(is_mail)].format(product=product)
    if is_mail:
        return f"{opener}\n\n{matter}\n\n{closing}"
    return f"AGENT: {opener}\nCUSTOMER: {matter} ({product})\nCUSTOMER: {closing}"


def _maker(world: World, one: _Document) -> Callable[[], bytes]:
    def make() -> bytes:
        if not one.is_mail:
            # An older recorder writes a Western code page.
            return (one.body + "\n").encode("cp1252" if one.shape == 0 else "utf-8")
        content = _mail(one)
        return content[: len(content) * 3 // 5] if one.is_cut else content

    return make


def _mail(one: _Document) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["Message-ID"] = f"<{one.name}@mail.anycompany.example>"
    message["Date"] = format_datetime(datetime.fromtimestamp(one.recorded, UTC))
    message["From"] = Address(f"Customer {one.customer}", f"customer{one.customer}", "mail.example")
    message["To"] = Address("Support", "support", "anycompany.example")
    topic = one.subject if one.language == "en" else f"{one.subject} | Größe, año, été"
    message["Subject"] = topic
    _SHAPES[4 if one.is_cut else one.shape](message, one)
    for number, part in enumerate(message.walk()):
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            part.set_boundary(f"part-{one.ticket}-{number}")
    return message.as_bytes()


def _html(one: _Document) -> str:
    paragraphs = "".join(f"<p>{text}</p>" for text in one.body.split("\n\n"))
    return f"<html><head><style>p {{margin: 0}}</style></head><body>{paragraphs}</body></html>"


def _plain(message: EmailMessage, one: _Document) -> None:
    message.set_content(one.body + "\n")


def _page(message: EmailMessage, one: _Document) -> None:
    message.set_content(_html(one), subtype="html")


def _both(message: EmailMessage, one: _Document) -> None:
    message.set_content(one.body + "\n")
    message.add_alternative(_html(one), subtype="html")


def _older(message: EmailMessage, one: _Document) -> None:
    message.set_content(one.body + "\n", charset="iso-8859-1", cte="quoted-printable")


def _attached(message: EmailMessage, one: _Document) -> None:
    message.set_content(one.body + "\n")
    message.add_attachment(_PIXEL, maintype="image", subtype="png", filename="photo.png")
    order = f"ticket;customer\r\n{one.ticket};{one.customer}\r\n"
    message.add_attachment(order.encode(), maintype="text", subtype="csv", filename="order.csv")


def _forwarded(message: EmailMessage, one: _Document) -> None:
    message["Cc"] = "team@anycompany.example"
    message["In-Reply-To"] = f"<earlier_{one.ticket}@mail.anycompany.example>"
    message.set_content(one.body + "\n")
    inner = EmailMessage(policy=SMTP)
    inner["Subject"], inner["From"] = "Your ticket", "support@anycompany.example"
    inner.set_content("We have received your message.\n")
    message.add_attachment(inner)


_SHAPES = (_plain, _page, _both, _older, _attached, _forwarded)


def _metadata(listed: list[_Document]) -> bytes:
    rows = [
        {
            "document": one.name,
            "kind": "mail" if one.is_mail else "call",
            "ticket": one.ticket,
            "customer": one.customer,
            "agent": one.agent,
            "language": one.language,
            "recorded_at": datetime.fromtimestamp(one.recorded, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for one in listed
    ]
    return (json.dumps(rows, indent=1) + "\n").encode()


def _truth(listed: list[_Document]) -> pa.Table:
    return pa.table(
        {
            "document": pa.array([one.name for one in listed], pa.string()),
            "ticket_id": pa.array([str(one.ticket) for one in listed], pa.string()),
            "language": pa.array([one.language for one in listed], pa.string()),
            "body": pa.array([one.body for one in listed], pa.string()),
        }
    )
