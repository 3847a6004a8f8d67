from support.evaluations import MODES, made_up_results
from typer.testing import CliRunner

from heisd_ros.cli.main import app


def results_in(path):
    """A file of results without comparisons, and so without most pictures."""
    results = made_up_results({"heisd": MODES["heisd"]}, tasks=1, states=1)
    results.path = path
    results.finish()
    return path


def call(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)], env={"COLUMNS": "200"})


def test_a_page_is_written_from_several_files(tmp_path):
    files = [results_in(tmp_path / name) for name in ("spatial.json", "goal.json")]
    out = tmp_path / "pages" / "report.html"
    result = call(*files, "--out", out, "--base", "spec_vla")
    assert result.exit_code == 0, result.output
    page = out.read_text()
    assert "spatial.json" in page and "goal.json" in page and "Overview" in page
    assert "Mode spec_vla was not run here" in page


def test_files_of_one_name_are_told_apart(tmp_path):
    files = [tmp_path / folder / "eval.json" for folder in "ab"]
    out = tmp_path / "report.html"
    assert call(*map(results_in, files), "--out", out, "--ablation", "a, b").exit_code == 0
    assert "a/eval.json" in out.read_text() and "b/eval.json" in out.read_text()


def test_what_is_no_results_file_is_refused(tmp_path):
    path = tmp_path / "eval.json"
    result = call(path, "--out", tmp_path / "report.html")
    assert result.exit_code == 2 and "is missing" in result.output
    path.write_text("{}")
    result = call(path, "--out", tmp_path / "report.html")
    assert result.exit_code == 2 and "format" in result.output
    assert not (tmp_path / "report.html").exists()


def test_a_plot_goes_into_a_new_folder(tmp_path):
    results = made_up_results()
    results.path = tmp_path / "eval.json"
    results.finish()
    plot = tmp_path / "new" / "modes.png"
    result = call(results.path, "--out", tmp_path / "report.html", "--plot", plot)
    assert result.exit_code == 0, result.output
    assert plot.is_file()
