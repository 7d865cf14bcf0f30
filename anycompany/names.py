"""Names of persons by culture, and how one name comes to be spelt in several ways.

pools of given and family names ─> indexes ─> spelling: as it is, plain ASCII, German ASCII,
nickname
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np

from anycompany.draws import Ints

_GIVEN = {
    "en": (
        "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William "
        "Barbara Richard Susan Joseph Jessica Thomas Sarah Charles Karen Christopher Lisa "
        "Daniel Nancy Matthew Betty Anthony Margaret Mark Sandra Steven Ashley Andrew "
        "Kimberly Joshua Emily Kenneth Donna Kevin Michelle Brian Carol George Amanda Edward "
        "Melissa Deborah Ronald Stephanie Timothy Rebecca Jason Laura Jeffrey Helen Ryan "
        "Sharon Jacob Cynthia Gary Katherine Nicholas Amy Eric Angela Jonathan Ruth Samuel "
        "Brenda Benjamin Pamela Alexander Nicole Patrick Olivia Frank Hannah"
    ),
    "es": (
        "José María Juan Guadalupe Francisco Luis Verónica Jesús Rosa Miguel Ana Carlos Lucía "
        "Jorge Sofía Alejandro Carmen Ricardo Elena Fernando Andrés Pilar Óscar Inés Raúl "
        "Beatriz Sergio Mónica Héctor Valentina Iván Ángela Rubén Nuria Tomás Adriana Pablo "
        "Claudia Diego Marta"
    ),
    "de": (
        "Jörg Anna Thomas Sabine Michael Petra Andreas Ursula Jürgen Monika Wolfgang Birgit "
        "Klaus Käthe Günter Claudia Stefan Heike Uwe Silke Matthias Katrin Björn Lena Sören "
        "Nadine Lukas Jana Felix Greta Johannes Ilse Rüdiger Vera Dieter Hannelore Frank Eva "
        "Tobias Rosemarie"
    ),
    "fr": (
        "Jean Marie Pierre Nathalie Michel Isabelle André Françoise Philippe Sylvie Hélène "
        "Céline François Chloé Frédéric Amélie Jérôme Léa Sébastien Zoé Benoît Noémie Thierry "
        "Valérie Guillaume Élodie Olivier Camille Rémi Delphine Étienne Bérénice Luc Odile "
        "Vincent Renée"
    ),
    "pl": (
        "Anna Piotr Krzysztof Małgorzata Andrzej Agnieszka Tomasz Barbara Paweł Ewa Michał "
        "Krystyna Marcin Elżbieta Jakub Zofia Łukasz Teresa Stanisław Joanna Grzegorz Danuta "
        "Wojciech Monika Rafał Halina Zbigniew Irena Dariusz Urszula Kazimierz Olga Filip "
        "Renata"
    ),
    "se": (
        "Lars Karin Mikael Åsa Anders Eva Johan Maria Per Birgitta Nils Kristina Erik "
        "Elisabeth Göran Linnéa Björn Sofia Håkan Ulrika Ove Ingrid Sven Malin Fredrik "
        "Therese Jörgen Hanna Rune Viktoria Östen Wilma Torbjörn Gunilla"
    ),
    "it": (
        "Giuseppe Maria Antonio Anna Giovanni Rosa Francesco Angela Luigi Teresa Niccolò "
        "Chiara Salvatore Lucia Vincenzo Elena Pietro Paola Roberto Silvia Carlo Daniela "
        "Domenico Federica Bruno Ilaria Enzo Zita Umberto Olga Stefano Quirina"
    ),
    "nl": (
        "Jan Maria Johannes Cornelia Hendrik Wilhelmina Pieter Elisabeth Dirk Margaretha "
        "Willem Anna Gerrit Saskia Bram Femke Sander Lotte Thijs Noor Joost Iris Ruben "
        "Katrijn Vera Ubbo Zoë Renée Quinten Ysbrand Otto Daan"
    ),
    "jp": (
        "Haruto Yui Sota Aoi Ren Hina Minato Sakura Yuto Rin Kaito Mei Takumi Nanami Daiki "
        "Emi Kenji Fumiko Hiroshi Chiyo Itsuki Keiko Jiro Ume Masaru Tomoko Noboru Wakana "
        "Goro Rina Osamu Asuka"
    ),
    "in": (
        "Aarav Ananya Vivaan Diya Aditya Isha Arjun Kavya Rohan Priya Sanjay Neha Vikram "
        "Pooja Rahul Lakshmi Karthik Meera Suresh Deepa Nikhil Gauri Manish Usha Harish Jaya "
        "Farhan Zara Omkar Bhavna Yash Tanvi Pranav Radhika"
    ),
    "kr": (
        "Minjun Seoyeon Jiwoo Hayoon Dohyun Eunji Yejun Sumin Hyunwoo Jisoo Taeyang Nari "
        "Kyungho Bora Sangmin Areum Woojin Chaewon Insoo Gayoung Rina Oksoon Heejin Myungsoo"
    ),
    "cn": (
        "Wei Mei Jun Xiuying Lei Fang Qiang Na Hui Tao Yan Bo Chen Ling Zhi Guang Rong Dan "
        "Kai Shu Ping Ai Hong Yu"
    ),
}

_FAMILY = {
    "en": (
        "Smith Johnson Williams Brown Jones Miller Davis Wilson Anderson Thomas Taylor Moore "
        "Jackson Martin Lee Thompson White Harris Clark Lewis Robinson Walker Young Allen "
        "King Wright Scott Hill Green Adams Baker Nelson Campbell Mitchell Carter Roberts "
        "Phillips Evans Turner Parker Edwards Collins Stewart Morris Murphy Cook Rogers "
        "Morgan Cooper Peterson Bailey Reed Kelly Howard Ward Cox Richardson Watson Brooks "
        "Wood Bennett Gray Hughes Price Myers Long Foster Sanders Ross Powell Sullivan "
        "Russell Jenkins Perry Butler Barnes Fisher Henderson Coleman Simmons Patterson "
        "Jordan Reynolds Hamilton Graham Wallace Griffin Cole West Hayes Chapman Ellis Lawson "
        "Hudson Spencer Gardner Payne Pierce Berry Matthews Wagner Willis Ray Watkins Olson "
        "Carroll Duncan Snyder Hart Cunningham"
    ),
    "es": (
        "García Martínez Rodríguez López Hernández González Pérez Sánchez Ramírez Cruz Flores "
        "Gómez Morales Vázquez Jiménez Reyes Díaz Torres Gutiérrez Ruiz Mendoza Aguilar Ortiz "
        "Castillo Moreno Romero Álvarez Chávez Rivera Juárez Domínguez Muñoz Ibáñez Peña "
        "Núñez Vega Soto Cortés Guzmán Rojas"
    ),
    "de": (
        "Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Schäfer "
        "Koch Bauer Richter Klein Wolf Schröder Neumann Schwarz Zimmermann Braun Krüger "
        "Hofmann Hartmann Lange Werner Krause Lehmann Köhler Maier Böhm Günther Jäger Größer "
        "Vogt Höfer Büttner Pfeiffer Löwe Sauer"
    ),
    "fr": (
        "Martin Bernard Dubois Thomas Robert Richard Petit Durand Leroy Moreau Simon Laurent "
        "Lefèvre Michel Garnier Bertrand Roux Vincent Fournier Morel Girard André Mercier "
        "Dupont Lambert Bonnet François Legrand Gauthier Chevalier Perrin Clément Lemaître "
        "Prévost Béranger Gérard"
    ),
    "pl": (
        "Nowak Kowalski Wiśniewski Wójcik Kowalczyk Kamiński Lewandowski Zieliński Szymański "
        "Woźniak Dąbrowski Kozłowski Jankowski Mazur Kwiatkowski Krawczyk Piotrowski "
        "Grabowski Pawłowski Michalski Król Zając Wieczorek Jabłoński Wróbel"
    ),
    "se": (
        "Andersson Johansson Karlsson Nilsson Eriksson Larsson Olsson Persson Svensson "
        "Gustafsson Pettersson Jonsson Lindström Bergström Sjöberg Åkesson Öberg Söderlund "
        "Nyström Hägg Lundqvist Holmgren Björk Sandberg Forsberg Ekström"
    ),
    "it": (
        "Rossi Russo Ferrari Esposito Bianchi Romano Colombo Ricci Marino Greco Bruno Gallo "
        "Conti Mancini Costa Giordano Rizzo Lombardi Moretti Barbieri Fontana Santoro Mariani "
        "Rinaldi Caruso Ferrara Galli Martini Leone Longo Serra"
    ),
    "nl": (
        "Jansen Bakker Visser Smit Meijer Mulder Bos Vos Peters Hendriks Dekker Brouwer "
        "Dijkstra Koster Willems Prins Huisman Postma Kuipers Veenstra Kramer Scholten "
        "Schouten Hoekstra Maas Verhoeven Gerritsen Molenaar Wolters Evers"
    ),
    "jp": (
        "Sato Suzuki Takahashi Tanaka Watanabe Ito Yamamoto Nakamura Kobayashi Kato Yoshida "
        "Yamada Sasaki Yamaguchi Matsumoto Inoue Kimura Hayashi Shimizu Saito Mori Abe Ikeda "
        "Hashimoto Ishikawa Ogawa Goto Okada Hasegawa Fujita"
    ),
    "in": (
        "Sharma Verma Gupta Singh Kumar Patel Reddy Iyer Nair Rao Joshi Mehta Shah Desai "
        "Kulkarni Menon Bose Banerjee Chatterjee Mukherjee Das Ghosh Pillai Agarwal Kapoor "
        "Malhotra Chopra Bhat Naidu Saxena"
    ),
    "kr": (
        "Kim Lee Park Choi Jung Kang Cho Yoon Jang Lim Han Oh Seo Shin Kwon Hwang Ahn Song "
        "Ryu Hong Jeon Moon Bae Baek"
    ),
    "cn": (
        "Tan Lim Lee Ng Ong Wong Goh Chua Chan Koh Teo Ang Yeo Tay Ho Low Toh Sim Chong Chia "
        "Seah Foo Wee Quek"
    ),
}

NICKNAMES = {
    "Robert": "Bob",
    "William": "Bill",
    "James": "Jim",
    "John": "Jack",
    "Michael": "Mike",
    "Elizabeth": "Liz",
    "Katherine": "Kate",
    "Margaret": "Peggy",
    "Thomas": "Tom",
    "Joseph": "Joe",
    "Richard": "Dick",
    "Charles": "Chuck",
    "Daniel": "Dan",
    "Matthew": "Matt",
    "Anthony": "Tony",
    "Steven": "Steve",
    "Andrew": "Andy",
    "Joshua": "Josh",
    "Jennifer": "Jen",
    "Patricia": "Pat",
    "Susan": "Sue",
    "Jessica": "Jess",
    "Deborah": "Deb",
    "Christopher": "Chris",
    "Alexander": "Alex",
    "Benjamin": "Ben",
    "Samuel": "Sam",
    "Nicholas": "Nick",
    "Johannes": "Hans",
    "Francisco": "Paco",
}

_GERMAN = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"}
)
_STROKES = str.maketrans({"ł": "l", "Ł": "L", "ø": "o", "ß": "ss"})


def ascii_name(name: str) -> str:
    """Returns the name without diacritics (`Müller` as `Muller`)."""
    decomposed = unicodedata.normalize("NFKD", name.translate(_STROKES))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def german_name(name: str) -> str:
    """Returns the name without diacritics as Germans write it (`Müller` as `Mueller`)."""
    return ascii_name(name.translate(_GERMAN))


@dataclass(frozen=True)
class Pool:
    """All names of one kind, the cultures behind one another.

    Attributes:
        names: Every name.
        first: Culture -> index of its first name.
        size: Culture -> count of its names.
        other_letter: For each name, one of the same culture that starts with another letter.
    """

    names: list[str]
    first: dict[str, int]
    size: dict[str, int]
    other_letter: Ints


def _pool(source: dict[str, str]) -> Pool:
    names: list[str] = []
    first: dict[str, int] = {}
    size: dict[str, int] = {}
    others: list[int] = []
    for culture, text in source.items():
        own = text.split()
        start = first[culture] = len(names)
        size[culture] = len(own)
        for position, name in enumerate(own):
            turn = (own[(position + step) % len(own)] for step in range(7, 7 + len(own)))
            initial = ascii_name(name)[0]
            other = next(candidate for candidate in turn if ascii_name(candidate)[0] != initial)
            others.append(start + own.index(other))
        names.extend(own)
    return Pool(names, first, size, np.array(others, dtype=np.int64))


GIVEN = _pool(_GIVEN)
FAMILY = _pool(_FAMILY)
CULTURES = list(_GIVEN)
