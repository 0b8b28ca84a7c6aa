"""The two networks of the quickstart: a LeNet and a small MLP for 28 x 28 images."""

from torch import Tensor, nn


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max pooling on 28 x 28 images; 44,426 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        h = self.pool(self.relu(self.conv1(images)))
        h = self.pool(self.relu(self.conv2(h))).flatten(1)
        return self.fc3(self.relu(self.fc2(self.relu(self.fc1(h)))))


class MLP(nn.Module):
    """784-64-64-10 with ReLU; 55,050 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, 10)
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        h = self.relu(self.fc1(images.flatten(1)))
        return self.fc3(self.relu(self.fc2(h)))


MODELS = {"lenet": LeNet, "mlp": MLP}
