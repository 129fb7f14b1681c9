"""The BERT of task 2 and its tokenizer, always from a local folder (paper §4.2)."""

import os
from pathlib import Path

from torch import Tensor, nn

from refers.errors import UserError
from refers.model.layers import Dropout

# A training job never downloads: weights are put in place by hand.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def load_tokenizer(folder: Path):
    """The WordPiece tokenizer in `folder`; its [CLS] and [SEP] are the report's start and end tokens."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(_advice(folder, error)) from None


def _advice(folder: Path, error: Exception) -> str:
    return f"{folder}: not a BERT checkpoint ({str(error).splitlines()[0]}); place one there (docs/data.md says which)"


class TextEncoder(nn.Module):
    """Token ids (B, T), 0 for padding -> pooled report features (B, hidden)."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from transformers import BertModel

        try:
            # ty: ignore[not-iterable] - transformers declares one module, and with the loading info returns a pair
            self.bert, report = BertModel.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                attn_implementation="sdpa",
            )
        except (OSError, ValueError) as error:
            raise UserError(_advice(folder, error)) from None
        missing = [key for key in report["missing_keys"] if "position_ids" not in key]
        if missing:
            raise UserError(
                f"{folder}: BERT weights lack {len(missing)} tensors, first {missing[0]}; use a complete checkpoint"
            )
        self.hidden = self.bert.config.hidden_size
        for part in list(self.bert.modules()):
            for name, child in part.named_children():
                if isinstance(child, nn.Dropout):
                    setattr(part, name, Dropout(child.p))

    def forward(self, tokens: Tensor) -> Tensor:
        # With a mask of two dimensions BERT asks the device in every step whether it is all ones, and the host waits.
        real = (tokens != 0)[:, None, None].expand(-1, 1, tokens.shape[1], -1)
        return self.bert(input_ids=tokens, attention_mask=real).pooler_output
