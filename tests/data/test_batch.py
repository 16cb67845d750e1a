import torch

from lyceum.data.batch import Batch, Row, next_token, stack


def test_the_shift_predicts_the_next_token_of_the_same_document() -> None:
    batch = Batch(
        tokens=torch.tensor([[5, 6, 7, 8, 9]]),
        loss_weights=torch.tensor([[1.0, 0.0, 1.0, 1.0, 2.0]]),
        documents=torch.tensor([[1, 1, 1, 2, 2]]),
    )
    targets = next_token(batch)
    assert targets.times.tolist() == [1, 3]  # 6 -> 7 and 8 -> 9; 5 -> 6 does not count, 7 -> 8 crosses documents
    assert targets.tokens.tolist() == [7, 9]
    assert targets.weights.tolist() == [1.0, 2.0]


def test_padding_is_neither_read_nor_predicted() -> None:
    rows = [
        Row(tokens=[1, 2, 3], loss_weights=[1.0, 1.0, 1.0], documents=[1, 1, 1]),
        Row(tokens=[4], loss_weights=[1.0], documents=[1]),
    ]
    batch = stack(rows, pad_to=5)
    assert batch.num_tokens == 4
    assert next_token(batch).tokens.tolist() == [2, 3]


def test_positions_restart_with_every_document() -> None:
    documents = torch.tensor([[1, 1, 2, 2, 2, 0], [7, 7, 7, 7, 8, 9]])
    batch = Batch(tokens=documents, loss_weights=torch.ones(documents.shape), documents=documents)
    assert batch.positions().tolist() == [[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 0, 0]]
