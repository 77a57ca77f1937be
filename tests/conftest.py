import cv2
import torch

# One thread each: on a machine with other work, two that wait for each other can take several times as long.
torch.set_num_threads(1)
cv2.setNumThreads(1)
