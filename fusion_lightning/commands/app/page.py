"""What the page looks like, and what happens when something on it is clicked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr
import numpy as np
from starlette.middleware import Middleware  # comes with Gradio
from starlette.middleware.trustedhost import TrustedHostMiddleware

from fusion_lightning.batch import MODALITIES
from fusion_lightning.commands.app.fusion import (
    EFFECTS,
    EXAMPLES,
    SCORES,
    Choices,
    Result,
    Tools,
    draw_example,
    fuse_files,
)
from fusion_lightning.datamodules.pairs import Side
from fusion_lightning.datamodules.synthetic import Kind
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.convert import COLORMAPS
from fusion_lightning.imaging.io import SUFFIXES
from fusion_lightning.methods import FusionMethod
from fusion_lightning.metrics import METRICS

LARGEST_FILE = "100mb"

_ABOUT = """# Fuse two images
Everything is computed on this machine; nothing is sent elsewhere. Not for diagnosis."""
_SOURCES: dict[Side, str] = {"a": "Source a: infrared, PET, SPECT, CT", "b": "Source b: visible, MRI"}
_DRAWN: dict[Kind, str] = {"street": "Draw a street", "medical": "Draw a head"}
_WINDOWS = ["", "minmax", "percentile:0.5,99.5", "agc", "none"]
_STYLE = """
footer { display: none !important }
.gradio-container { width: 100%; max-width: 1280px !important; margin: auto }
#problem { border-left: 3px solid #c2410c; padding-left: 12px }
#pictures .grid-wrap { min-height: 0 }
"""


def build_page(tools: Tools, folder: Path) -> gr.Blocks:
    """The page.

    Args:
        tools: The methods, and what aligns and estimates.
        folder: Where examples and results are written.
    """
    page = gr.Blocks(title="Fuse two images", analytics_enabled=False, fill_width=True)
    with page:
        gr.Markdown(_ABOUT)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                inputs, buttons = _choices(list(tools.methods))
            with gr.Column(scale=3, min_width=420):
                outputs = _results()
        drawn, result = gr.State(0), gr.State(None)

        def fuse(values: dict[Any, Any]) -> dict[Any, Any]:
            choices = _read_choices({name: values[one] for name, one in inputs.items()})
            try:
                found = fuse_files(choices, tools, Path(mkdtemp(dir=folder)))
            except UserError as error:
                return {result: None, **_show_problem(outputs, str(error))}
            return {result: found, **_show(outputs, found, values[outputs["beside"]])}

        def draw(kind: Kind, number: int) -> dict[Any, Any]:
            a, b = draw_example(kind, number, Path(mkdtemp(dir=folder)))
            return {inputs["a"]: str(a), inputs["b"]: str(b), drawn: number + 1}

        def knobs(name: str) -> dict[Any, Any]:
            method = tools.methods[name]
            has = {knob: knob in method.controls for knob in ("strength_a", "strength_b", "balance")}
            has["auto"] = method.uses_degradation
            has["steps"] = type(method).trajectory_sheet is not FusionMethod.trajectory_sheet
            return {inputs[knob]: gr.update(visible=visible) for knob, visible in has.items()}

        everything = {"inputs": {*inputs.values(), outputs["beside"]}, "outputs": {result, *outputs.values()}}
        hidden: dict[str, Any] = {"api_visibility": "private"}
        buttons["fuse"].click(fuse, **everything, **hidden)
        for kind in EXAMPLES:
            clicked = buttons[kind].click(
                lambda number, kind=kind: draw(kind, number), drawn, {inputs["a"], inputs["b"], drawn}, **hidden
            )
            clicked.then(fuse, **everything, **hidden)
        of_method = {inputs[knob] for knob in ("strength_a", "strength_b", "balance", "auto", "steps")}
        gr.on([page.load, inputs["method"].change], knobs, inputs["method"], of_method, **hidden)
        outputs["beside"].change(_compare, [result, outputs["beside"]], outputs["slider"], **hidden)
    return page


def serve(page: gr.Blocks, host: str, port: int) -> None:
    """Serve the page, and return."""
    # a name of somebody else's that leads here (DNS rebinding) must not open the page to his scripts
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[host, "localhost"])
    page.launch(
        app_kwargs={"middleware": [hosts]},
        server_name=host,
        server_port=port,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        max_file_size=LARGEST_FILE,
        state_session_capacity=8,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        ssr_mode=False,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=_STYLE,
    )


def _choices(methods: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The left column: everything that is chosen, and the buttons, by name."""
    inputs: dict[str, Any] = {}
    buttons: dict[str, Any] = {}
    for side in MODALITIES:
        inputs[side] = gr.File(label=_SOURCES[side], file_types=sorted(SUFFIXES), height=150)
    with gr.Row():
        for kind in EXAMPLES:
            buttons[kind] = gr.Button(_DRAWN[kind], size="sm", min_width=100)
    inputs["method"] = gr.Dropdown(list(methods), value=methods[0], label="Method", filterable=False)
    inputs["align"] = gr.Checkbox(label="Bring source a into the frame of b first")
    inputs["strength_a"] = gr.Slider(
        0, 1, 1, step=0.05, label="Remove from a: 0 nothing, 1 all degradation", buttons=[]
    )
    inputs["strength_b"] = gr.Slider(0, 1, 1, step=0.05, label="Remove from b", buttons=[])
    inputs["balance"] = gr.Slider(0, 1, 0.5, step=0.05, label="Balance: 0 leans to a, 1 to b", buttons=[])
    inputs["auto"] = gr.CheckboxGroup(
        [("source a", "a"), ("source b", "b")], label="Find out what went wrong with it, and undo that"
    )
    inputs["steps"] = gr.Checkbox(label="Show every step of the diffusion")
    buttons["fuse"] = gr.Button("Fuse", variant="primary")
    with gr.Accordion("Degrade a clean pair first", open=False):
        for side in MODALITIES:
            gr.Markdown(f"Source {side}, from 0 (not at all) to 5 (hardly usable)")
            with gr.Row():
                for name in EFFECTS[side]:
                    label = name.replace("_", " ")
                    inputs[f"{side} {name}"] = gr.Slider(0, 5, 0, step=1, label=label, min_width=160, buttons=[])
    with gr.Accordion("How the files are read and written", open=False):
        with gr.Row():
            for side in MODALITIES:
                inputs[f"window {side}"] = gr.Dropdown(
                    _WINDOWS, value="", label=f"window {side}", allow_custom_value=True, min_width=140
                )
        gr.Markdown("Which values become black and white; also `raw:LO,HI` and, for PET, `suv:LO,HI`.")
        inputs["resize"] = gr.Radio(
            [("as they are", ""), ("to a", "a"), ("to b", "b")], value="", label="resize both images"
        )
        inputs["colormap_a"] = gr.Dropdown(
            [("grey", ""), *((name, name) for name in COLORMAPS)], value="", label="draw a grey source a in"
        )
        inputs["bits"] = gr.Radio([8, 16], value=8, label="bits of the file to download")
    return inputs, buttons


def _results() -> dict[str, Any]:
    """The right column: everything that is shown, by name."""
    outputs: dict[str, Any] = {}
    outputs["problem"] = gr.Markdown(visible=False, elem_id="problem")
    outputs["slider"] = gr.ImageSlider(
        label="source | fusion",
        format="png",
        interactive=False,
        height=480,
        max_height=480,
        buttons=["fullscreen"],
    )
    with gr.Row():
        outputs["beside"] = gr.Radio(
            [("beside source a", "a"), ("beside source b", "b")], value="b", show_label=False, container=False, scale=3
        )
        outputs["file"] = gr.DownloadButton("Download the fusion", interactive=False, size="md", scale=2)
    outputs["scores"] = gr.Markdown(visible=False)
    outputs["parts"] = gr.Gallery(
        label="what the method saw and made",
        format="png",
        height="auto",
        visible=False,
        buttons=["fullscreen"],
        elem_id="pictures",
    )
    outputs["steps"] = gr.Image(
        show_label=False, format="png", visible=False, interactive=False, buttons=["fullscreen"]
    )
    return outputs


def _read_choices(values: Mapping[str, Any]) -> Choices:
    """The choices, from the values of the left column."""
    return Choices(
        a=values["a"],
        b=values["b"],
        method=values["method"],
        align=values["align"],
        auto=values["auto"],
        windows=(values["window a"] or "", values["window b"] or ""),
        resize=values["resize"] or None,
        colormap_a=values["colormap_a"] or None,
        severities={side: {name: int(values[f"{side} {name}"]) for name in EFFECTS[side]} for side in MODALITIES},
        controls={knob: values[knob] for knob in ("strength_a", "strength_b", "balance")},
        steps=values["steps"],
        bits=values["bits"],
    )


def _show(outputs: Mapping[str, Any], result: Result, beside: Side) -> dict[Any, Any]:
    """The right column with a result."""
    pictures = [(image, f"source {side}") for side, image in result.sources.items()]
    pictures += [(image, caption) for caption, image in result.parts]
    return {
        outputs["problem"]: gr.update(visible=False),
        outputs["slider"]: _compare(result, beside),
        outputs["file"]: gr.update(value=str(result.file), interactive=True),
        outputs["scores"]: gr.update(value=_table(result), visible=True),
        outputs["parts"]: gr.update(value=pictures, columns=3 if len(pictures) > 4 else 2, visible=True),
        outputs["steps"]: gr.update(value=result.steps, visible=result.steps is not None),
    }


def _show_problem(outputs: Mapping[str, Any], sentence: str) -> dict[Any, Any]:
    """The right column with nothing but a sentence."""
    return {
        outputs["problem"]: gr.update(value=f"{sentence[:1].upper()}{sentence[1:]}.", visible=True),
        outputs["slider"]: None,
        outputs["file"]: gr.update(value=None, interactive=False),
        outputs["scores"]: gr.update(visible=False),
        outputs["parts"]: gr.update(visible=False),
        outputs["steps"]: gr.update(visible=False),
    }


def _compare(result: Result | None, beside: Side) -> Any:
    """The slider between a source and the fusion."""
    if result is None:
        return None
    images = tuple(_rgb(image) for image in (result.sources[beside], result.fused))
    return gr.update(value=images, label=f"source {beside} | fusion")


def _rgb(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _table(result: Result) -> str:
    """The scores as Markdown: of the fusion, and of the restored sources where something was degraded."""
    arrows = {True: " ↑", False: " ↓", None: ""}
    scored = [name for name in SCORES if name in result.scores]
    about = [f"Fused in {result.seconds:.1f} s; too small to be scored."]
    if scored:
        heads = [f"{name}{arrows[METRICS[name].higher_is_better]}" for name in scored]
        about = [
            f"Fused in {result.seconds:.1f} s and scored against {result.against}. More is better (↑), or less (↓).",
            _markdown(heads, [[f"{result.scores[name]:.3f}" for name in scored]]),
        ]
    before_and_after = ["PSNR_{}_in", "PSNR_{}", "SSIM_{}_in", "SSIM_{}"]
    rows = [
        [f"source {side}", *(f"{result.scores[key.format(side)]:.3f}" for key in before_and_after)]
        for side in MODALITIES
        if f"PSNR_{side}" in result.scores
    ]
    about += [f"{remark[:1].upper()}{remark[1:]}." for remark in result.remarks]
    if rows:
        about.append(_markdown(["", "PSNR before ↑", "restored", "SSIM before ↑", "restored"], rows))
    return "\n\n".join(about)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"|{'|'.join(line)}|" for line in [heads, ["---:"] * len(heads), *rows])
