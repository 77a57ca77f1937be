import signal

import cv2
import torch

# One thread each: on a machine with other work, two that wait for each other can take several times as long.
torch.set_num_threads(1)
cv2.setNumThreads(1)
# What runs in the background of a shell, or under nohup, inherits these as ignored, and so would what is started here.
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("SIGTERM", "SIGHUP"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
