"""``resnet-proto view``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_proto.cli.engine_options import inputs_and_weights, seed_option
from resnet_proto.cli.image_options import image_options, input_option
from resnet_proto.cli.options import (
    file_to_read,
    file_to_write,
    files_to_read,
    lenient_option,
    net_argument,
    read_net,
    shape_option,
    state_options,
)
from resnet_proto.errors import ResNetProtoError

if TYPE_CHECKING:
    from resnet_proto.layers import Shape
    from resnet_proto.preprocess import ImageOptions
    from resnet_proto.state import State

PAGES = (".html", ".htm")


@click.command("view")
@net_argument
@click.option(
    "--weights", metavar="FILE", callback=files_to_read, multiple=True,
    help="Weights in any format, or 'random': adds range and histogram of each blob. Given twice: "
         "the second is OTHER's.",
)  # fmt: skip
@input_option
@image_options
@click.option(
    "--compare", "other", metavar="OTHER", callback=file_to_read,
    help="Show a second net beside the first, with differences marked.",
)  # fmt: skip
@click.option(
    "-o", "--out", metavar="FILE.html", callback=file_to_write,
    help="Write one self-contained file; - is stdout.",
)  # fmt: skip
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@state_options
@shape_option
@seed_option
@lenient_option
def command(
    net: str,
    weights: tuple[str, ...],
    inputs: tuple[str, ...],
    image: ImageOptions,
    other: str | None,
    out: str | None,
    no_browser: bool,
    state: State,
    shapes: dict[str, Shape],
    seed: int,
    lenient: bool,
) -> None:
    """Open a net in the browser: layers, weights, feature maps.

    The page shows stages, units and layers, with everything known of each. Without -o it is
    served to this machine only, and follows changes of the files; Ctrl-C ends it. --weights adds
    ranges and histograms, --input also feature maps and the range of each activation.

    \b
    resnet-proto view deploy.prototxt
    resnet-proto view deploy.prototxt --weights ResNet-50.caffemodel \\
        --input cat.jpg --preprocess msra -o page.html
    resnet-proto view r50/deploy.prototxt --compare r101/deploy.prototxt
    resnet-proto view net.prototxt --weights before.caffemodel \\
        --compare net.prototxt --weights after.caffemodel
    """
    from resnet_proto.report import page
    from resnet_proto.report.page import facts

    if inputs and not weights:
        raise click.UsageError("--input needs --weights FILE, or random")
    if len(weights) > 1 + (other is not None):
        raise click.UsageError("give --weights once for each net; a second net goes with --compare")

    if out not in (None, "-") and Path(str(out)).suffix.lower() not in PAGES:
        raise click.UsageError(f"-o {out}: give it one of the suffixes {', '.join(PAGES)}")
    images = [text if Path(text).exists() else text.partition("=")[2] for text in inputs]
    files = [file for file in weights if file != "random"]
    watched = [net, other or "", *files, *images]

    def make(live: str = "") -> str:
        """The page as the files are now."""
        names = [net] if other is None else [net, other]
        nets = [read_net(n, lenient=lenient, state=state, shapes=shapes) for n in names]
        of_solvers = (one.source for one in nets if Path(one.source).is_file())
        watched.extend(file for file in of_solvers if file not in watched)
        pages = [
            facts.facts(one, one.name or Path(name).name)
            for one, name in zip(nets, names, strict=True)
        ]
        if other is not None:
            facts.compare(nets, pages)
        shown = image  # where the first is a released model, a changed one is shown the same
        for one, its_page, file in zip(nets, pages, weights, strict=False):
            arrays, values, shown = inputs_and_weights(one, file, seed, inputs, shown)
            facts.add_weights(its_page, values, one)
            if inputs:
                facts.add_values(its_page, one, values, arrays)
        return page.page(pages, live)

    if out is None:
        serve(make, watched, browser=not no_browser)
        return
    text = make()
    if out == "-":
        click.echo(text, nl=False)
        return
    from resnet_proto.files import atomic

    with atomic(out) as file:
        n = file.write(text.encode())
    click.echo(f"wrote {out}: {n:,} bytes", err=True)


def serve(make: Callable[[str], str], files: list[str], *, browser: bool) -> None:
    """Serve the page until Ctrl-C, and make it anew when a file has changed.

    Raises:
        click.UsageError: a file that can be read only once.
        ResNetProtoError: the page cannot be made; when it is open, it shows that instead.
    """
    import threading
    import webbrowser

    from resnet_proto.report.page import refusal
    from resnet_proto.report.page.serve import Server

    for file in files:
        if file == "-" or Path(file).is_fifo():
            raise click.UsageError(
                f"{file} can be read only once; write the page with -o FILE.html"
            )
    context = click.get_current_context()

    def remake(live: str) -> str:
        with context.scope(cleanup=False):
            try:
                return make(live)
            except click.ClickException as error:
                return refusal(error.format_message(), live)
            except (ResNetProtoError, OSError, MemoryError) as error:
                return refusal(str(error), live)
            finally:
                context.close()  # files of weights

    with Server(remake, files) as server:
        state = server.state()
        server.made = (state, make(state).encode())
        context.close()
        click.echo(f"{server.address} (Ctrl-C ends it)")
        if browser:
            threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo(err=True)
