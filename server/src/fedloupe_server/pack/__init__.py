"""The evidence pack: one folder for a journal, an ethics board and a sceptic, written from a finished run.

pack = write_pack(Path("runs/demo-rectal"))      # RUN/pack: report.html and .pdf, figures, tables, model, checklists
"""

from fedloupe_server.pack.writing import FOLDER, SUMS, Pack, write_pack

__all__ = ["FOLDER", "SUMS", "Pack", "write_pack"]
