"""The ONNX file of a source: exported once for each graph and batch, found again, rebuilt when damaged."""

from vit_perception.engines.source import EngineSource


def test_the_file_is_exported_once_and_rebuilt_when_damaged(source, tmp_path):
    log = []
    first = EngineSource(source.graph, 2, log.append, tmp_path).onnx_file()
    again = EngineSource(source.graph, 2, log.append, tmp_path).onnx_file()
    assert first == again and len(log) == 1 and "exporting" in log[0]
    weights = first.with_name("model.onnx.data")
    content = weights.read_bytes()
    weights.write_bytes(content[:-4])
    EngineSource(source.graph, 2, log.append, tmp_path).onnx_file()
    assert "damaged" in log[1] and "exporting" in log[2] and weights.read_bytes() == content


def test_the_key_names_what_the_file_depends_on(source):
    assert {"weights_sha256", "config", "graph_version", "network_size_px", "block", "batch", "torch", "onnx",
            "onnxscript"} < set(source.key())
    other = EngineSource(source.graph, 3)
    assert other.key() != source.key() and other.graph_digest == source.graph_digest


def test_each_precision_and_form_of_attention_is_a_file_of_its_own(source):
    keys = [source.key(), source.key("float16"), source.key("bfloat16"), source.key("float16", "float32_softmax")]
    assert len({str(key) for key in keys}) == len(keys)
    # float32 has one form: asking for another gives the same file.
    assert source.key("float32", "float32") == source.key()
